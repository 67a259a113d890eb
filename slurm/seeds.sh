#!/usr/bin/env bash
# Train a recipe with several seeds, each in a task of its own. From the repository's root:
#
#     sbatch slurm/seeds.sh recipes/dscmr_wikipedia.py                      # seeds 0 to 4
#     sbatch --array=0-9%2 slurm/seeds.sh recipes/dscmr_wikipedia.py        # ten seeds, two at a time
#
# The run of seed 3 is runs/RECIPE/slurm-JOB-seed-3, its log runs/slurm/JOB_3.out. Everything else is as in
# slurm/train.sh.
#SBATCH --array=0-4
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -euo pipefail

seed=$SLURM_ARRAY_TASK_ID
exec bash slurm/train.sh "$1" --train.name "slurm-$SLURM_ARRAY_JOB_ID-seed-$seed" --train.seed "$seed" "${@:2}"
