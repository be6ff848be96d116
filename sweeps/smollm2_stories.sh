#!/usr/bin/env bash
# Five algorithms x three seeds on a real language model, and their report:
#   sweeps/smollm2_stories.sh [RUNS_FOLDER]      two runs at a time, all from one cold start
# What is finished in RUNS_FOLDER (default runs/smollm2_stories) is not run again.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-runs/smollm2_stories}
sweeps/seeds.sh smollm2_stories "$runs" "nft grpo rft dapo dr_grpo" "0 1 2"
"${NFT_BIN:-.venv/bin}/python" -m nft_lightning.cli.compare "$runs" --baseline nft \
  --out benchmarks/results/smollm2_stories --title "Word problems, SmolLM2-135M"
