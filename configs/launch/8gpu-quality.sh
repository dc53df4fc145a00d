#!/usr/bin/env bash
# The base size on 8 GPUs: 12 layers of 768, packed rows of 512 tokens, 100,000 updates.
# Run it in a clone of the course, with its environment active. It can be started again at any time: it goes on where it was.
set -euo pipefail

accelerate launch --config_file configs/accelerate/gpu-8.yaml -m microbert_course pretrain base --folder runs/base --layout packed --compile --cuda-graph --save-every 1000 --keep-checkpoints 3 --resume latest "$@"
