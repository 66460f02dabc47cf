#!/usr/bin/env bash
# Several GPU machines. --workdir must be storage that all of them see.
#
# Under Slurm, which tells every process who it is: one task a GPU, or one task a node that takes all the node's GPUs.
#   srun --nodes=4 --ntasks-per-node=8 --gpus-per-node=8 launch/gpu_nodes.sh configs/magicmirror_5b.py --workdir /shared/run
#   srun --nodes=4 --ntasks-per-node=1 --gpus-per-node=8 launch/gpu_nodes.sh configs/magicmirror_5b.py --workdir /shared/run
# Anywhere else, the same line on each machine, with one process for all its GPUs; HOST:PORT is process 0's:
#   COORDINATOR=10.0.0.1:12345 PROCESSES=4 PROCESS=0 launch/gpu_nodes.sh configs/magicmirror_5b.py --workdir /shared/run
#
# A scheduler that sends SIGTERM before it takes the machines (sbatch --signal=TERM@300) gets a checkpoint and status 0;
# a lost machine ends all within a minute with status 2. Either way the same line goes on from the last checkpoint.
# XLA flags that others report to pay between machines, none of them measured here, so none is set:
#   XLA_FLAGS="--xla_gpu_enable_latency_hiding_scheduler=true --xla_gpu_all_gather_combine_threshold_bytes=1073741824"
set -euo pipefail
config=${1:?usage: launch/gpu_nodes.sh CONFIG.py --workdir DIR [--config.KEY=VALUE ...]}
shift
if [[ -n ${COORDINATOR:-} ]]; then
  place=(--coordinator="$COORDINATOR" --processes="${PROCESSES:?}" --process="${PROCESS:?}")
else
  place=(--coordinator=auto)
fi
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92}
line=(python -m mmjax.train --config="$config" "${place[@]}" "$@")
[[ -z ${DRY_RUN:-} ]] || { printf '%q ' "${line[@]}" && echo && exit; }
exec "${line[@]}"
