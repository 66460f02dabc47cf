#!/usr/bin/env bash
# One machine, one process: all its GPUs (or its TPU chips) make up the mesh.
#
#   launch/single.sh configs/magicmirror_5b.py --config.train.steps=1000
#   CUDA_VISIBLE_DEVICES=0 launch/single.sh configs/tiny.py
#
# DRY_RUN=1, here and in the other scripts, prints what would be started. MMJAX_CACHE keeps compiled programs between
# runs. The memory settings let JAX take nearly the whole GPU at the start; "failed to determine best cudnn convolution
# algorithm" is out-of-memory in disguise: lower the fraction then.
set -euo pipefail
config=${1:?usage: launch/single.sh CONFIG.py [--config.KEY=VALUE ...] [--workdir DIR]}
shift
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92}
line=(python -m mmjax.train --config="$config" --compilation_cache="${MMJAX_CACHE:-$HOME/.cache/mmjax}" "$@")
[[ -z ${DRY_RUN:-} ]] || { printf '%q ' "${line[@]}" && echo && exit; }
exec "${line[@]}"
