#!/usr/bin/env bash
# One of the processes that slurm/train.sh starts: rank.sh STATUSES RECIPE [options]
#
# Appends to the file STATUSES, if the exit status is not 0: the status and the last signal that came.
statuses=$1
shift
export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS

# At these signals the recipe ends its step and saves a checkpoint; this shell waits for it.
signal=none
trap 'signal=TERM' TERM
trap 'signal=USR1' USR1
# Several words: a container's command and its options.
# shellcheck disable=SC2086
${XMR_CONTAINER:-} python "$@" && exit
status=$?

# srun kills all others as soon as one process has failed, so that none waits for the dead. Where all fail, as when they
# stop together, they shall do so in peace: nobody leaves before the last one, but for ten seconds at most.
echo "$status $signal" >> "$statuses"
for ((second = 0; second < 10 && $(wc -l < "$statuses") < SLURM_NTASKS; second++)); do
    sleep 1
done
exit "$status"
