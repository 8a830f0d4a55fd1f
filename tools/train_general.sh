#!/usr/bin/env bash
# The general denoisers of saved_models/: generic noise on the pictures of BSDS500.
#
#   tools/train_general.sh DATA RUNS gray|rgb
#
# DATA holds bsds400_color/; RUNS gets pictures and the training. A run that was killed
# goes on when the command is given again.
set -euo pipefail
data=$1 runs=$2 kind=$3 tools=$(dirname "$0")
case $kind in
gray) channels=1 width=64 steps=15000 correlated=0.25 ;;
rgb) channels=3 width=80 steps=13000 correlated=0.5 ;; # As the noise of cameras is.
*) echo "The third argument must be gray or rgb. Received: $kind" >&2; exit 1 ;;
esac
pictures=$runs/$kind/pictures

python "$tools/prepare_general.py" --data "$data" --output "$pictures" --channels "$channels"
train_denoiser --config "$tools/../configs/denoiser_resnet.py" --workdir "$runs/$kind/denoiser" \
    --config.clean.spec="$pictures/train" \
    --config.validation.clean="$pictures/clean" --config.validation.noisy="$pictures/noisy" \
    --config.network.hidden_channels="$width" \
    --config.network.precision="${PRECISION:-float32}" \
    --config.start.noise.correlated_probability="$correlated" \
    --config.start.training.num_steps="$steps" --config.objective.training.num_steps=0
cp "$runs/$kind/denoiser/denoiser.keras" "$tools/../saved_models/denoiser_$kind.keras"
