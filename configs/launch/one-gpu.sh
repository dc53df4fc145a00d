#!/usr/bin/env bash
# The largest preset that fits on the one GPU of this machine; it says which, and why.
# Run it in a clone of the course, with its environment active. It can be started again at any time: it goes on where it was.
set -euo pipefail

accelerate launch --config_file configs/accelerate/gpu-1.yaml -m microbert_course pretrain auto --folder runs/auto --save-every 500 --resume latest "$@"
