#!/usr/bin/env bash
# A TPU slice on GKE, as a JobSet (its controller must be installed in the cluster): one pod a host, started together.
# IMAGE holds mmjax and jax[tpu]; CLAIM is a ReadWriteMany volume claim, mounted at /mnt/shared in all pods.
#
#   NAME=mine IMAGE=REGISTRY/mmjax CLAIM=shared ACCELERATOR=tpu-v6e-slice TOPOLOGY=4x4 HOSTS=4 CHIPS=4 \
#     launch/gke_jobset.sh configs/magicmirror_5b.py --workdir /mnt/shared/run
#
# DRY_RUN=1 prints the manifest. A pod that is taken away gets SIGTERM: all save and end well, so start the same line
# again. A lost pod ends all with status 2, and the JobSet starts them anew, on from the last checkpoint.
set -euo pipefail
config=${1:?usage: NAME=... IMAGE=... (see inside) launch/gke_jobset.sh CONFIG.py --workdir DIR [--config.KEY=VALUE ...]}
shift
quoted() { local each; for each in "$@"; do printf "'%s', " "${each//\'/\'\'}"; done; } # as YAML's items
manifest=$(cat <<YAML
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata: {name: ${NAME:?of the JobSet}}
spec:
  failurePolicy: {maxRestarts: ${RESTARTS:-3}}
  replicatedJobs:
  - name: slice
    replicas: 1
    template:
      spec:
        parallelism: ${HOSTS:?hosts of the slice}
        completions: $HOSTS
        backoffLimit: 0
        template:
          spec:
            restartPolicy: Never
            terminationGracePeriodSeconds: 300
            nodeSelector:
              cloud.google.com/gke-tpu-accelerator: ${ACCELERATOR:?such as tpu-v6e-slice}
              cloud.google.com/gke-tpu-topology: ${TOPOLOGY:?such as 4x4}
            containers:
            - name: train
              image: ${IMAGE:?with mmjax and jax[tpu]}
              command: [$(quoted python -m mmjax.train "--config=$config" --coordinator=auto "$@")]
              resources: {limits: {google.com/tpu: ${CHIPS:?of a host}}}
              volumeMounts: [{name: shared, mountPath: /mnt/shared}]
            volumes:
            - name: shared
              persistentVolumeClaim: {claimName: ${CLAIM:?of a shared volume}}
YAML
)
[[ -z ${DRY_RUN:-} ]] || { echo "$manifest" && exit; }
kubectl apply -f - <<<"$manifest"
