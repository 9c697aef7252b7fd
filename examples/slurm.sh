#!/usr/bin/env bash
# Train on several nodes of a Slurm cluster: sbatch examples/slurm.sh train tokenizer imagenet256_crt --data /shared/imagenet
#
# torchrun runs once on each node and starts a process for each GPU. Slurm sends SIGTERM before a job's time is over: the
# run saves its state, and the job is queued again and goes on.
#SBATCH --job-name=vistok
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
set -uo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun \
  --nnodes "$SLURM_NNODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:-8}" \
  --rdzv-backend c10d --rdzv-endpoint "$head:29500" --rdzv-id "$SLURM_JOB_ID" --max-restarts 3 \
  -m vistok "$@"
status=$?
# Stopped and saved, not finished and not failed: torchrun reports the signal.
if [ "$status" -ge 128 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$status"
