#!/usr/bin/env bash
# One of the processes that slurm/train.sh starts: rank.sh STATUSES RECIPE [options]
#
# Appends the exit status to the file STATUSES if it is not 0.
statuses=$1
shift
export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS

# At SIGTERM the recipe ends its step and saves a checkpoint; this shell waits for it.
trap : TERM
python "$@" && exit
status=$?

# srun kills all others as soon as one process has failed, so that none waits for the dead. Where all fail, as when they
# stop together, they shall do so in peace: nobody leaves before the last one, but for ten seconds at most.
echo "$status" >> "$statuses"
for ((second = 0; second < 10 && $(wc -l < "$statuses") < SLURM_NTASKS; second++)); do
    sleep 1
done
exit "$status"
