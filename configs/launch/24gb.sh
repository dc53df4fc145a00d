#!/usr/bin/env bash
# v4 on one GPU of 24 GB: 96 rows at once; --checkpointing makes room for more.
# Run it in a clone of the course, with its environment active. It can be started again at any time: it goes on where it was.
set -euo pipefail

accelerate launch --config_file configs/accelerate/gpu-1.yaml -m microbert_course pretrain v4 --folder runs/v4-24gb --compile --cuda-graph --save-every 500 --resume latest "$@"
