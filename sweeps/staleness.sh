#!/usr/bin/env bash
# Nine algorithms x staleness 0, 1, 2, 4, 8 x five seeds on arithmetic_compare, and a table and a figure of them:
#   sweeps/staleness.sh [RUNS_FOLDER]      two runs at a time, about two and a half hours on two idle cores
# Each algorithm has its own learning rate, searched without staleness. What is finished in RUNS_FOLDER (default
# runs/staleness) is not run again.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-runs/staleness}
algorithms="nft nft_sequence rft grpo dapo cispo sapo dppo maxrl"
chosen=$(sweeps/rates.sh arithmetic_compare "${runs}_rates" "$algorithms" "2.5e-5 5e-5 1e-4" 100)
echo "$chosen"
for staleness in 0 1 2 4 8; do
  sweeps/seeds.sh arithmetic_compare "$runs/$staleness" "$chosen" "0 1 2 3 4" \
    "rollout.max_staleness=$staleness"
done
"${NFT_BIN:-.venv/bin}/python" benchmarks/staleness_report.py "$runs" --out benchmarks/results/staleness
