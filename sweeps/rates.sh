#!/usr/bin/env bash
# The small search that gives each algorithm of a comparison its learning rate:
#   sweeps/rates.sh EXPERIMENT RUNS_FOLDER "ALGORITHM ..." "RATE ..." SEED [OVERRIDE ...]
# prints ALGORITHM@RATE for each, as sweeps/seeds.sh takes them. SEED should not be one that is compared.
set -euo pipefail
cd "$(dirname "$0")/.."
experiment=$1 runs=$2 algorithms=$3 rates=$4 seed=$5
overrides=("${@:6}")
for rate in $rates; do
  sweeps/seeds.sh "$experiment" "$runs/$rate" "$algorithms" "$seed" \
    "optimizer.learning_rate=$rate" "${overrides[@]}" >&2
done
# shellcheck disable=SC2086
"${NFT_BIN:-.venv/bin}/python" sweeps/best_rates.py "$runs" $algorithms
