#!/usr/bin/env bash
# Train on several nodes of a Slurm cluster: sbatch examples/slurm.sh train tokenizer imagenet256_crt --data /shared/imagenet
#
# torchrun runs once on each node and starts a process for each GPU. Five minutes before the time is over Slurm signals this
# script: the run saves its state after its current step, and the job is queued again and goes on. Written from Slurm's and
# torch's documentation; not yet run on a cluster.
#SBATCH --job-name=vistok
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
set -uo pipefail

# Since Slurm 22.05 srun does not take this over by itself.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
# Time for saving, before torchrun kills what it has stopped.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=240
# Processes that are started again meet at a store of their own, and not where the dead ones' addresses are.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun \
  --nnodes "$SLURM_NNODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:-8}" \
  --rdzv-backend c10d --rdzv-endpoint "$head:29500" --rdzv-id "$SLURM_JOB_ID" --max-restarts 3 \
  -m vistok "$@" &
step=$!

again() {
  scancel --signal=TERM "$SLURM_JOB_ID.0"  # to torchrun (srun would kill at once if it were sent the signal)
  wait "$step"
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}
trap again TERM
wait "$step"
