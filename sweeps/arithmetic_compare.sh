#!/usr/bin/env bash
# Five algorithms x five seeds on experiment=arithmetic_compare: the table and the curves in the README.
# About 25 minutes on two cores; finished runs are kept under runs/benchmark and not run again.
set -euo pipefail
cd "$(dirname "$0")/.."
exec .venv/bin/python benchmarks/arithmetic.py arithmetic_compare --out benchmarks/results/arithmetic_compare
