#!/usr/bin/env bash
# Algorithms x seeds on one experiment, two runs at a time, each on one thread; what is finished is not run again:
#   sweeps/seeds.sh EXPERIMENT RUNS_FOLDER "ALGORITHM[@RATE] ..." "SEED ..." [OVERRIDE ...]
# RATE is the algorithm's own learning rate, such as nft@1e-5; without it the experiment's.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
experiment=$1 runs=$2 algorithms=$3 seeds=$4
overrides=("${@:5}")
bin=${NFT_BIN:-.venv/bin}

one() { # ALGORITHM[@RATE] SEED
  algorithm=${1%@*}
  rate=()
  [[ $1 == *@* ]] && rate=("optimizer.learning_rate=${1#*@}")
  name=${algorithm}_seed$2
  folder=$runs/$name
  [[ -e $folder/summary.json ]] && return
  echo "$1, seed $2"
  mkdir -p "$runs/output"
  "$bin/python" -m nft_lightning.cli.train "experiment=$experiment" "algorithm=$algorithm" "seed=$2" \
    "run_dir=$folder" resume=auto "${rate[@]}" "${overrides[@]}" > "$runs/output/$name.txt" 2>&1 ||
    echo "$1, seed $2 failed: see $runs/output"
}

for seed in $seeds; do
  for algorithm in $algorithms; do
    while [[ $(jobs -rp | wc -l) -ge 2 ]]; do wait -n; done
    one "$algorithm" "$seed" &
  done
done
wait
