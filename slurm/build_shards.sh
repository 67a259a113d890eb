#!/usr/bin/env bash
# Build the shards of a dataset by several tasks at once, each a part of them. From the repository's root:
#
#     sbatch slurm/build_shards.sh mscoco RAW data/shards/mscoco
#     sbatch --array=0-31 --cpus-per-task 4 slurm/build_shards.sh mscoco RAW data/shards/mscoco --resize 256
#
# What stands before the script is for Slurm, what stands behind it for the builder preprocessing.NAME. The tasks may
# run at the same time or one after the other; the one that ends last puts the shards in place, with one manifest, the
# same as those of a build in one piece. All of them have to see RAW and OUT. A task that was killed goes on where it
# was: submit the same line again. The logs are runs/slurm/JOB_TASK.out.
#SBATCH --job-name=build_shards
#SBATCH --array=0-7
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
source slurm/begin.sh

count=$SLURM_ARRAY_TASK_COUNT
if ((SLURM_ARRAY_TASK_MAX - SLURM_ARRAY_TASK_MIN + 1 != count)); then
    echo "error: --array must be a range without gaps, such as 0-7" >&2
    exit 2
fi
part=$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN))/$count
# shellcheck disable=SC2086
exec ${XMR_CONTAINER:-} python -m "preprocessing.$1" --part "$part" --workers "$SLURM_CPUS_ON_NODE" "${@:2}"
