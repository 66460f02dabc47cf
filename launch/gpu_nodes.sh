#!/usr/bin/env bash
# Several GPU machines. --workdir must be storage that all of them can see.
#
# Under Slurm, which tells every process who it is; JAX gives each task one GPU there, so start as many tasks as GPUs:
#   srun --nodes=4 --ntasks-per-node=8 --gpus-per-node=8 launch/gpu_nodes.sh configs/magicmirror_5b.py --workdir /shared/run
# Anywhere else, the same line on each machine, with one process for all its GPUs; HOST:PORT is process 0's:
#   COORDINATOR=10.0.0.1:12345 PROCESSES=4 PROCESS=0 launch/gpu_nodes.sh configs/magicmirror_5b.py --workdir /shared/run
#
# A scheduler that sends SIGTERM before it takes the machines gets a checkpoint and status 0; the same line goes on.
set -euo pipefail
config=${1:?usage: launch/gpu_nodes.sh CONFIG.py --workdir DIR [--config.KEY=VALUE ...]}
shift
if [[ -n ${COORDINATOR:-} ]]; then
  place=(--coordinator="$COORDINATOR" --processes="${PROCESSES:?}" --process="${PROCESS:?}")
else
  place=(--coordinator=auto)
fi
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92}
exec python -m mmjax.train --config="$config" "${place[@]}" "$@"
