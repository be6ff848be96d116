#!/usr/bin/env bash
# K against the number of problems, at equal completions a rollout: 512 = 128 x 4 = 64 x 8 = 32 x 16 = 16 x 32.
#   sweeps/group_size.sh [ALGORITHM] [RUNS_FOLDER]     three seeds each, about 15 minutes on two cores
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
algorithm=${1:-nft}
runs=${2:-runs/group_size}
bin=${NFT_BIN:-.venv/bin}
for k in 4 8 16 32; do
  echo "$k"
done | xargs -P 2 -I{} bash -c '"$0/python" -m nft_lightning.cli.train -m experiment=arithmetic_compare \
  algorithm='"$algorithm"' seed=0,1,2 rollout.completions_per_problem={} \
  rollout.problems_per_rollout=$((512 / {})) hydra.sweep.dir='"$runs"'/k{}' "$bin"
"$bin/python" -m nft_lightning.cli.compare "$runs" --may-differ rollout --out "$runs/report" \
  --title "Group size of $algorithm at equal completions"
