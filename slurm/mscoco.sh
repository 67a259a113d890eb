#!/usr/bin/env bash
# Semantic Sharing on MSCOCO, on two nodes and all of their GPUs. From the repository's root:
#
#     python -m preprocessing.mscoco RAW data/shards/mscoco        # once
#     sbatch slurm/mscoco.sh
#     sbatch --partition gpu --time 2-0 --nodes 1 slurm/mscoco.sh --train.epochs 30 --data.shards /scratch/mscoco
#
# What stands before the script is for Slurm, what stands behind it for recipes/semantic_sharing_mscoco.py (--help-all shows
# all options). Compute nodes seldom reach the internet: fetch the detector's weights on the login node,
#
#     python -c "from xmr_e2e.towers.detector import load_detector; load_detector('coco', '')"
#
# or name a file: --method.image.weights fasterrcnn_resnet50_fpn_coco.pth. slurm/train.sh says how many processes start,
# where the log is and what the job's exit status means.
#SBATCH --job-name=semantic_sharing_mscoco
#SBATCH --nodes=2
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -euo pipefail

exec bash slurm/train.sh recipes/semantic_sharing_mscoco.py "$@"
