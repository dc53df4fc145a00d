#!/usr/bin/env bash
# v4 on 8 GPUs of one machine, 96 rows a GPU, 10,000 updates.
# Run it in a clone of the course, with its environment active. It can be started again at any time: it goes on where it was.
set -euo pipefail

accelerate launch --config_file configs/accelerate/gpu-8.yaml -m microbert_course pretrain v4 --folder runs/v4-standard --compile --cuda-graph --save-every 500 --resume latest "$@"
