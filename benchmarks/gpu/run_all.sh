#!/usr/bin/env bash
# All checks that wait for a GPU, the most valuable first, within ten minutes:
#   benchmarks/gpu/run_all.sh [OUT] [--rehearse]     --rehearse: on the CPU, with tiny models
# A check writes OUT/NAME/results.md and results.json when it ends, so that what the clock cuts off loses
# nothing else; log.txt says why one did not. SECONDS_LIMIT (600) and PYTHON (.venv/bin/python) may be set.
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${1:-benchmarks/results/gpu}
shift || true
python=${PYTHON:-.venv/bin/python}
limit=${SECONDS_LIMIT:-600}
gpus=$("$python" -c 'import torch; print(torch.cuda.device_count())')
started=$SECONDS

check() { # NAME OPTION ...
  name=$1
  left=$((limit - SECONDS + started))
  if ((left < 10)); then
    echo "$name: not run, the time is over"
    return
  fi
  mkdir -p "$out/$name"
  begun=$SECONDS
  timeout --signal=TERM --kill-after=10 "$left" "$python" "benchmarks/gpu/$name.py" --out "$out/$name" "${@:2}" \
    > "$out/$name/log.txt" 2>&1
  code=$?
  if ((code == 0)); then
    echo "$name: $((SECONDS - begun)) s, $out/$name/results.md"
  else
    echo "$name: exit code $code after $((SECONDS - begun)) s, $(tail -n 1 "$out/$name/log.txt")"
  fi
}

sizes=() runs=()
if [[ " $* " == *" --rehearse "* ]]; then
  sizes=(--rows 2 --prompt 32 --answer 96)
  runs=(--problems 4 --completions 2)
else
  check rollouts --cycles 8 --repeats 2 --prompts 64
fi
check step "${sizes[@]}" "$@"
check attention "$@"
check memory "${sizes[@]}" "$@"
check adapters "${runs[@]}" "$@"
if ((gpus > 1)); then
  check strategies --devices "$gpus" "$@"
  check vllm_ranks --devices "$gpus" "$@"
fi
