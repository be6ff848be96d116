#!/usr/bin/env bash
# Seven algorithms x five seeds on experiment=arithmetic_compare, and the report that README.md shows:
#   sweeps/compare_all.sh [RUNS_FOLDER]      two runs at a time, about 25 minutes on two idle cores
# What is finished in RUNS_FOLDER (default runs/compare_all) is not run again.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-runs/compare_all}
sweeps/seeds.sh arithmetic_compare "$runs" "nft rft grpo dr_grpo dapo ppo dpo" "0 1 2 3 4"
"${NFT_BIN:-.venv/bin}/python" -m nft_lightning.cli.compare "$runs" --baseline nft \
  --target 0.35 --out benchmarks/results/compare_all --title "Seven algorithms on arithmetic_compare"
