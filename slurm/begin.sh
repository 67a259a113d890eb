# What the jobs of this folder begin with (sourced): a name for the job, its log in runs/slurm/, the environment.
#
# Sets job: the job's id, that of an array's task as Slurm shows it, 812_3. A requeued job keeps it.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}

# Slurm opens a job's log before it runs anything, and makes no folder for it.
mkdir -p runs/slurm
if [ -e "slurm-$job.out" ]; then
    exec >> "runs/slurm/$job.out" 2>&1
    rm "slurm-$job.out"
fi
echo "$(date '+%F %T') job $job, start $((${SLURM_RESTART_COUNT:-0} + 1)), on $SLURM_JOB_NODELIST"

# A container's environment (docs/containers.md), or the one that was active at sbatch, if the project is installed in it.
[ -n "${XMR_CONTAINER:-}" ] || command -v xmr > /dev/null || source .venv/bin/activate
