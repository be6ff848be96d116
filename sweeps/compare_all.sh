#!/usr/bin/env bash
# Seven algorithms x five seeds on experiment=arithmetic_compare, and the report that README.md shows:
#   sweeps/compare_all.sh [RUNS_FOLDER]      two runs at a time, about 25 minutes on two idle cores
# What is finished in RUNS_FOLDER (default runs/compare_all) is not run again.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
runs=${1:-runs/compare_all}
bin=${NFT_BIN:-.venv/bin}
algorithms=(nft rft grpo dr_grpo dapo ppo dpo)

one() { # ALGORITHM SEED
  folder=$runs/$1_seed$2
  [[ -e $folder/summary.json ]] && return
  rm -rf "$folder"
  echo "$1, seed $2"
  mkdir -p "$runs/output"
  "$bin/python" -m nft_lightning.cli.train experiment=arithmetic_compare "algorithm=$1" "seed=$2" \
    "run_dir=$folder" > "$runs/output/$1_seed$2.txt" 2>&1 || echo "$1, seed $2 failed: see $runs/output"
}
export -f one
export runs bin
for seed in 0 1 2 3 4; do printf "%s $seed\n" "${algorithms[@]}"; done |
  xargs -P 2 -L 1 bash -c 'one "$0" "$1"'
"$bin/python" -m nft_lightning.cli.compare "$runs" --baseline nft \
  --target 0.35 --out benchmarks/results/compare_all --title "Seven algorithms on arithmetic_compare"
