#!/usr/bin/env bash
# Train a recipe on the nodes of a Slurm job, one process on each GPU. From the repository's root:
#
#     sbatch slurm/train.sh recipes/alscor_pascal.py
#     sbatch --nodes 4 --partition gpu --time 1-0 slurm/train.sh recipes/alscor_pascal.py --train.epochs 30
#     sbatch --ntasks-per-node 8 slurm/train.sh recipes/alscor_pascal.py    # 8 processes on each node
#
# What stands before the script is for Slurm, what stands behind it for the recipe. Nodes without GPUs get one process
# each unless --ntasks-per-node says otherwise. Nodes are taken whole; for a part of one:
#
#     sbatch --oversubscribe --gpus-per-node 2 --cpus-per-task 16 --mem 100G slurm/train.sh recipes/alscor_pascal.py
#
# The log is runs/slurm/JOB.out, unless sbatch got an --output, and the run's folder runs/RECIPE/slurm-JOB. Two minutes
# before the time limit, or at `scancel --signal=USR1 JOB`, the training saves a checkpoint, and the job goes back to the
# queue and then on in the same folder. Otherwise it ends with the recipe's exit status: 2 after an error that you can
# mend, 75 where it was stopped and has saved a checkpoint. docs/slurm.md says more.
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -euo pipefail
source slurm/begin.sh

# Where the processes meet: at the address by which Slurm itself reaches the first node.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_ADDR=$(scontrol show node "$first" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))

LOCAL_WORLD_SIZE=${SLURM_NTASKS_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}
export MASTER_ADDR MASTER_PORT LOCAL_WORLD_SIZE OMP_NUM_THREADS=$((SLURM_CPUS_ON_NODE / LOCAL_WORLD_SIZE))

# srun starts the processes itself, since accelerate launch and torchrun end with 1 whatever the recipe's status was.
# Every process sees all of the job's cores on its node: the recipe divides them among the processes' loaders.
# (--cpus-per-task would ask for whole cores: more of them than there are, where they do not divide evenly.)
# It runs in the background: a shell hears signals while it waits, but not while a command runs.
statuses=$(mktemp "runs/slurm/$job.XXXX")
srun --ntasks=$((SLURM_JOB_NUM_NODES * LOCAL_WORLD_SIZE)) --ntasks-per-node="$LOCAL_WORLD_SIZE" --cpu-bind=none \
    --kill-on-bad-exit=1 --label bash slurm/rank.sh "$statuses" "$1" --train.name "slurm-$job" "${@:2}" &
srun=$!

# The time limit's signal comes to this shell alone, and srun hands it on. SIGTERM comes to the processes as well.
trap 'kill -USR1 "$srun" 2> /dev/null || true' USR1
trap : TERM
while kill -0 "$srun" 2> /dev/null; do
    wait "$srun" || true  # a trapped signal interrupts it
done
wait "$srun" && status=0 || status=$?

# srun gives the highest status, which may be that of a process that it killed because another had failed.
[ -s "$statuses" ] && read -r status signal < "$statuses"
rm "$statuses"

# Slurm requeues a job that it preempts, but not one that ends by itself in the time of grace.
if [ "$status" = 75 ] && { [ "${signal:-}" = USR1 ] || scontrol show job "$job" | grep -q 'PreemptTime=[0-9]'; }; then
    echo "$(date '+%F %T') a checkpoint is saved: job $job goes back to the queue"
    scontrol requeue "$job" || echo "it may not; to go on, submit it again with --train.name slurm-$job"
fi
exit "$status"
