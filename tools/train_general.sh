#!/usr/bin/env bash
# The denoisers of saved_models/: generic noise on the pictures of BSDS500.
#
#   tools/train_general.sh DATA RUNS gray|rgb|camera
#
# DATA holds bsds400_color/; RUNS gets pictures and the training. `camera` begins with
# denoiser_rgb. A run that was killed goes on when the command is given again.
set -euo pipefail
data=$1 runs=$2 kind=$3 tools=$(dirname "$0") variant=full
case $kind in
gray) channels=1 options=(--config.start.training.num_steps=15000) ;;
rgb) channels=3 options=(--config.start.training.num_steps=8000
    --config.network.hidden_channels=80 --config.start.noise.shared_probability=0.0) ;;
camera) channels=3 variant=camera options=(--config.denoiser=denoiser_rgb
    --config.start.training.num_steps=8000) ;;
*) echo "The third argument must be gray, rgb or camera. Received: $kind" >&2; exit 1 ;;
esac
pictures=$runs/$kind/pictures

python "$tools/prepare_general.py" --data "$data" --output "$pictures" --channels "$channels"
train_denoiser --config "$tools/../configs/denoiser_resnet.py:$variant" \
    --workdir "$runs/$kind/denoiser" --config.clean.spec="$pictures/train" \
    --config.validation.clean="$pictures/clean" --config.validation.noisy="$pictures/noisy" \
    --config.network.precision="${PRECISION:-float32}" "${options[@]}" \
    --config.objective.training.num_steps=0
cp "$runs/$kind/denoiser/denoiser.keras" "$tools/../saved_models/denoiser_$kind.keras"
