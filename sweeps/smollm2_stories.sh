#!/usr/bin/env bash
# Five algorithms x three seeds on a real language model, each at its own learning rate, and their report:
#   sweeps/smollm2_stories.sh [RUNS_FOLDER]      two runs at a time, all from one cold start
# What is finished in RUNS_FOLDER (default runs/smollm2_stories) is not run again.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-runs/smollm2_stories}
chosen=$(sweeps/rates.sh smollm2_stories "${runs}_rates" "nft grpo rft dapo dr_grpo" "5e-6 1e-5 2e-5" 100 \
  trainer.max_epochs=4)
echo "$chosen"
# Other seeds and more held-out problems than the settings were chosen with.
sweeps/seeds.sh smollm2_stories "$runs" "$chosen" "1 2 3" trainer.max_epochs=12 evaluation.problems=160 \
  evaluation.completions_per_problem=2 evaluation.every_epochs=8
"${NFT_BIN:-.venv/bin}/python" -m nft_lightning.cli.compare "$runs" --baseline nft \
  --may-differ optimizer.learning_rate --out benchmarks/results/smollm2_stories \
  --title "Word problems, SmolLM2-135M"
