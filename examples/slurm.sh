#!/usr/bin/env bash
# Train on several nodes of a Slurm cluster: sbatch examples/slurm.sh train tokenizer imagenet256_crt --data /shared/imagenet
#
# torchrun runs once on each node and starts a process for each GPU. Five minutes before the time is over Slurm signals this
# script: the run saves its state (after its current step; torchrun waits for half a minute, and what is not saved by then is
# in the checkpoint of at most execution.checkpoint_minutes before), and the job is queued again and goes on.
#SBATCH --job-name=vistok
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
set -uo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun \
  --nnodes "$SLURM_NNODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:-8}" \
  --rdzv-backend c10d --rdzv-endpoint "$head:29500" --rdzv-id "$SLURM_JOB_ID" --max-restarts 3 \
  -m vistok "$@" &
step=$!

again() {
  kill -TERM "$step"  # srun hands it on to torchrun, and torchrun to the processes
  wait "$step"
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}
trap again TERM
wait "$step"
