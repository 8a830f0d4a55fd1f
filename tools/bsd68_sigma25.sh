#!/usr/bin/env bash
# BSD68, gray, Gaussian noise of 25: both stages by the protocol, then the scores.
#
#   tools/bsd68_sigma25.sh DATA RUNS
#
# DATA holds train400/ and bsd68/; RUNS gets pictures, priors and denoisers. A run that
# was killed goes on when the command is given again. tools/results/ gets the scores.
set -euo pipefail
data=$1 runs=$2 results=$(dirname "$0")/results configs=$(dirname "$0")/../configs

python "$(dirname "$0")/prepare_protocol.py" --data "$data" --output "$runs/pictures" --sigma 25
train_prior --config "$configs/prior_glow.py:gray" --workdir "$runs/prior" \
    --config.clean.spec="$runs/pictures/clean" \
    --config.validation.spec="$runs/pictures/validation_clean"

denoiser() { # NAME [FLAG...]: trains a denoiser and scores it
    local name=$1; shift
    train_denoiser --config "$configs/denoiser_resnet.py" --workdir "$runs/$name" \
        --config.prior="$runs/prior/best.keras" \
        --config.clean.spec="$runs/pictures/clean" \
        --config.noisy.spec="$runs/pictures/noisy" \
        --config.validation.noisy="$runs/pictures/validation_noisy" \
        --config.validation.clean="$runs/pictures/validation_clean" \
        --config.network.precision="${PRECISION:-float32}" "$@"
    evaluate --model "$runs/$name/denoiser.keras" \
        --noisy "$runs/pictures/test_noisy" --reference "$runs/pictures/test_clean" \
        --output "$results/bsd68_sigma25_$name.json"
}
denoiser start --config.objective.training.num_steps=0
mkdir -p "$runs/denoiser"
cp -rn "$runs/start/start" "$runs/start/model.json" "$runs/denoiser/"
denoiser denoiser
