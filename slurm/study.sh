#!/usr/bin/env bash
# A task of a study's array: one of its runs. `xmr study run FILE --submit` submits it, with
#
#     sbatch --array=0-199 slurm/study.sh FILE LIST RUNS
#
# where line N + 1 of LIST says which run task N is: row, seed, name of its folder below RUNS, shards. Options for Slurm, such as a
# partition, come from its variables: SBATCH_PARTITION=gpu xmr study run FILE --submit. Everything else is as in
# slurm/train.sh.
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -euo pipefail

read -r row seed name shards < <(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" "$2")
exec bash slurm/train.sh "$1" --run "$row" --train.seed "$seed" --train.name "$name" --train.runs "$3" \
    --data.shards "$shards" --train.no-report "${@:4}"
