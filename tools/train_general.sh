#!/usr/bin/env bash
# The denoisers of saved_models/: generic noise on the pictures of BSDS500.
#
#   tools/train_general.sh DATA RUNS gray|rgb|camera
#
# DATA holds bsds400_color/; RUNS gets pictures and trainings. `gray` ends with mostly
# white noise; `camera` begins with denoiser_rgb. A run that was killed goes on when the
# command is given again.
set -euo pipefail
data=$1 runs=$2 kind=$3 tools=$(dirname "$0")
case $kind in gray) channels=1 ;; rgb | camera) channels=3 ;;
*) echo "The third argument must be gray, rgb or camera. Received: $kind" >&2; exit 1 ;;
esac
pictures=$runs/$kind/pictures

# train NAME VARIANT STEPS OPTION...
train() {
    train_denoiser --config "$tools/../configs/denoiser_resnet.py:$2" \
        --workdir "$runs/$kind/$1" --config.clean.spec="$pictures/train" \
        --config.validation.clean="$pictures/clean" --config.validation.noisy="$pictures/noisy" \
        --config.network.precision="${PRECISION:-float32}" \
        --config.start.training.num_steps="$3" "${@:4}"
    trained=$runs/$kind/$1/denoiser.keras
}

python "$tools/prepare_general.py" --data "$data" --output "$pictures" --channels "$channels"
case $kind in
gray)
    train any_noise start 15000
    train mostly_white start 3000 --config.denoiser="$trained" \
        --config.start.training.learning_rate=1e-3 --config.start.crops.seed=3 \
        --config.start.noise.gain_probability=0.25 --config.start.noise.correlated_probability=0.1
    ;;
rgb) train any_noise start 8000 --config.network.hidden_channels=80 --config.start.noise.shared_probability=0.0 ;;
camera) train weak_noise camera 8000 --config.denoiser=denoiser_rgb ;;
esac
cp "$trained" "$tools/../saved_models/denoiser_$kind.keras"
