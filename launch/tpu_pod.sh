#!/usr/bin/env bash
# All hosts of a TPU slice, from your own machine: copies nothing, runs the same line on each host.
# mmjax must be installed there (pip install 'jax[tpu]' and this repository), --workdir must be a mounted bucket or disk.
#
#   TPU=my-slice ZONE=us-east5-a launch/tpu_pod.sh configs/magicmirror_5b.py --workdir /mnt/shared/run
set -euo pipefail
config=${1:?usage: TPU=NAME ZONE=ZONE launch/tpu_pod.sh CONFIG.py --workdir DIR [--config.KEY=VALUE ...]}
shift
on_host=(python -m mmjax.train --config="$config" --coordinator=auto "$@")
line=(gcloud compute tpus tpu-vm ssh "${TPU:?name of the slice}" --zone="${ZONE:?its zone}" --worker=all
  --command="cd ${REPOSITORY:-mmjax} && $(printf '%q ' "${on_host[@]}")")
[[ -z ${DRY_RUN:-} ]] || { printf '%q ' "${line[@]}" && echo && exit; }
exec "${line[@]}"
