"""The whole loop against TRL's GRPOTrainer: the same model, problems, lengths, rate and updates.

    python3 -m venv PEERS && PEERS/bin/pip install -c constraints.txt trl==1.16.0 transformers accelerate
    python benchmarks/against_trl.py --trl PEERS/bin/python --out benchmarks/results/against_trl

Both train with GRPO, one thread, one process, in turn: our process, theirs, ours again. TRL runs with
each of ``--settings`` once, and then with the best of them; it judges with a pattern and keeps no files,
we with our default verifier. Neither saves checkpoints. ``samples per second`` counts the whole of
training from the first rollout to the last update; ``training phase`` is all of it but writing and
judging completions. The seconds to an accuracy are those of the first of two evaluations in a row that
reach it. Writes ``results.json``, ``results.md`` and ``curves.png`` after every pair.

The policy is the embedded one, with 64 problems x 8 completions per rollout and four updates each. With
``--model FOLDER`` it is that model, on the word problems and with the numbers of
``experiment=smollm2_stories``; FOLDER is the export of its cold start:

    python benchmarks/against_trl.py --trl PEERS/bin/python --model RUNS/cold_starts/HASH/export \\
        --settings fp32 bf16 --search-rollouts 1 --rollouts 4 --evaluate-every 4 --pairs 1 --goals 0.4 \\
        --out benchmarks/results/against_trl_135m
"""

from __future__ import annotations

import argparse
from pathlib import Path

from race import EMBEDDED, Peer, Race, Run, run_race

STORIES = (
    "experiment=smollm2_stories",
    "cold_start=null",
    "model=hf",
    "evaluation.completions_per_problem=2",
)
# What TRL is given where a setting does not say otherwise.
PLAIN: Run = {"micro_batches": 1, "bf16": False, "cache": None}
SETTINGS: dict[str, Run] = {
    "fp32": {},
    "static cache": {"cache": "static"},
    "four micro-batches an update": {"micro_batches": 4},
    "bf16": {"bf16": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trl", required=True, help="python of an environment with trl")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--rollouts", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--search-rollouts", type=int, default=3)
    parser.add_argument("--model", help="folder of a model for the word problems")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--evaluate-every", type=int, default=1, help="rollouts")
    parser.add_argument("--goals", nargs="+", type=float, default=[0.5, 0.8], help="accuracies to reach")
    parser.add_argument("overrides", nargs="*", help="for nft-train")
    args = parser.parse_args()
    given = [*STORIES, f"model.path={args.model}"] if args.model else list(EMBEDDED)
    overrides = [*given, f"evaluation.every_epochs={args.evaluate_every}", *args.overrides]
    settings = {name: SETTINGS[name] for name in args.settings}
    script = Path(__file__).with_name("against_trl_peer.py")
    peer = Peer("TRL", args.trl, script, settings, PLAIN)
    race = Race(overrides, args.rollouts, args.search_rollouts, args.pairs, args.goals)
    run_race(peer, race, args.out)


if __name__ == "__main__":
    main()
