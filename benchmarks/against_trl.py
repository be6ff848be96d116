"""The whole loop against TRL's GRPOTrainer: the same model, problems, lengths, rate and updates.

    python3 -m venv PEERS && PEERS/bin/pip install -c constraints.txt trl==1.16.0 transformers accelerate
    python benchmarks/against_trl.py --trl PEERS/bin/python --out benchmarks/results/against_trl

Both train with GRPO, one thread, one process, in turn: our process, theirs, ours again. TRL runs with
each of ``--settings`` once, and then with the best of them; it judges with a pattern and keeps no files,
we with our default verifier. Neither saves checkpoints. ``samples per second`` counts the whole of
training from the first rollout to the last update; ``training phase`` is all of it but writing and
judging completions. Held-out accuracy comes from our engine and verifier for both, and is not timed.
Writes ``results.json``, ``results.md`` and ``curves.png``.

The policy is the embedded one, with 64 problems x 8 completions per rollout and four updates each. With
``--model FOLDER`` it is that model, on the word problems and with the numbers of
``experiment=smollm2_stories``; FOLDER is the export of its cold start:

    python benchmarks/against_trl.py --trl PEERS/bin/python --model RUNS/cold_starts/HASH/export \\
        --settings fp32 bf16 --search-rollouts 1 --rollouts 4 --evaluate-every 4 --pairs 1 --goals 0.4 \\
        --out benchmarks/results/against_trl_135m
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from measuring import ONE_THREAD, facts, save

from nft_lightning.app.parts import Parts, build_parts
from nft_lightning.assets import tiny_policy_path
from nft_lightning.cli.entry import compose_or_explain
from nft_lightning.common.pictures import STYLE, encoded, label_ends, look
from nft_lightning.compare.runs import read_evaluation
from nft_lightning.engines.base import completion_seed
from nft_lightning.engines.hf.engine import HFEngine
from nft_lightning.training.held_out import evaluation_sampling

Run = dict[str, Any]
PEER = Path(__file__).with_name("against_trl_peer.py")
COMMON = (
    "algorithm=grpo",
    "logger=csv",
    "callbacks=none",
    "+callbacks.evaluations._target_=nft_lightning.records.rollouts.EvaluationRecord",
)
EMBEDDED = (
    "rollout.problems_per_rollout=64",
    "rollout.completions_per_problem=8",
    "rollout.max_new_tokens=64",
    "batching.updates_per_rollout=4",
    "optimizer.learning_rate=2e-4",
    "evaluation.problems=100",
)
STORIES = (
    "experiment=smollm2_stories",
    "cold_start=null",
    "model=hf",
    "evaluation.completions_per_problem=2",
)
SETTINGS: dict[str, Run] = {
    "fp32": {},
    "static cache": {"cache": "static"},
    "four micro-batches an update": {"micro_batches": 4},
    "bf16": {"bf16": True},
}


def words(rollouts: int, seed: int, overrides: Sequence[str]) -> list[str]:
    """Return what nft-train is given; TRL's settings are read from the same config."""
    return [
        *COMMON,
        "evaluation.every_epochs=1",
        *overrides,
        f"trainer.max_epochs={rollouts}",
        f"seed={seed}",
    ]


def ours(rollouts: int, seed: int, folder: Path, overrides: Sequence[str]) -> Run:
    """One run of nft-train."""
    run_dir = folder / "ours"
    command = [sys.executable, "-m", "nft_lightning.cli.train", *words(rollouts, seed, overrides)]
    command += [f"run_dir={run_dir}"]
    subprocess.run(command, check=True, env={**os.environ, **ONE_THREAD}, stdout=subprocess.DEVNULL)
    with open(run_dir / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    spent = {
        phase: sum(float(r.get(f"time/{phase}_seconds") or 0) for r in rows)
        for phase in ("generate", "verify", "sync", "sync_check", "old_logprobs", "train", "optimizer")
    }
    curve = our_curve(run_dir)
    seconds = curve[-1][0]
    rollout = sum(spent[phase] for phase in ("generate", "verify", "sync", "sync_check"))
    return {
        "seconds": seconds,
        "phases": spent,
        "training": seconds - rollout,
        "completions": max(float(r["progress/completions"] or 0) for r in rows),
        "tokens": max(float(r["progress/tokens"] or 0) for r in rows),
        "curve": curve,
    }


def our_curve(run_dir: Path) -> list[tuple[float, float]]:
    """Training seconds and held-out accuracy, from the run's own records."""
    paths = sorted((run_dir / "evaluations").glob("*.parquet"))
    found = [read_evaluation([path]) for path in paths]
    return [(float(e.axes["seconds"]), float(e.accuracy.mean())) for e in found]


def theirs(
    trl: str,
    rollouts: int,
    seed: int,
    folder: Path,
    setting: Run,
    overrides: Sequence[str],
    scored: bool,
) -> Run:
    """One run of TRL's trainer in its own environment."""
    cfg = compose_or_explain("train", words(rollouts, seed, overrides))
    parts = build_parts(cfg)
    count = rollouts * parts.rollout.problems_per_rollout
    tokenizer = parts.model.inspect().tokenizer
    drawn = [parts.source.problem(i, seed) for i in range(count)]
    prompts = [parts.prompt.render(tokenizer, p.text) for p in drawn]
    every = parts.evaluation.every_epochs
    job = {
        "model": cfg.model.get("path") or str(tiny_policy_path("tiny")),
        "out": str(folder),
        "seed": seed,
        "rollouts": rollouts,
        "updates_per_rollout": parts.batching.updates_per_rollout,
        "problems_per_rollout": parts.rollout.problems_per_rollout,
        "completions_per_problem": parts.rollout.completions_per_problem,
        "max_new_tokens": parts.rollout.max_new_tokens,
        "learning_rate": parts.optimizer.learning_rate,
        "adam_betas": [parts.optimizer.beta1, parts.optimizer.beta2],
        "weight_decay": parts.optimizer.weight_decay,
        "max_grad_norm": parts.optimizer.clip_grad_norm,
        "problems": [{"prompt": t, "answer": p.answer} for t, p in zip(prompts, drawn, strict=True)],
        "keep_every": every if scored else rollouts,
        "micro_batches": 1,
        "bf16": False,
        "cache": None,
        **setting,
    }
    (folder / "job.json").write_text(json.dumps(job))
    command = [trl, str(PEER), str(folder / "job.json")]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with open(folder / "output.txt", "w") as output:
        subprocess.run(
            command, check=True, env={**environment, **ONE_THREAD}, stdout=output, stderr=output
        )
    result: Run = json.loads((folder / "result.json").read_text())
    if scored:
        accuracies = their_accuracies(folder, parts, seed)
        result["curve"] = list(zip([0.0, *result["at_seconds"]], accuracies, strict=True))
    return result


def their_accuracies(folder: Path, parts: Parts, seed: int) -> list[float]:
    """Held-out accuracy of the start and of each snapshot, as our own runs measure it."""
    policy = parts.model.load(parts.rollout.temperature)
    engine = HFEngine(policy.model, policy.tokenizer)
    problems = parts.source.held_out(parts.evaluation.problems)
    prompts = [parts.prompt.encode(policy.tokenizer, p.text) for p in problems]
    each = parts.evaluation.completions_per_problem
    golds = [p.answer for p in problems for _ in range(each)]
    seeds = [[completion_seed(seed, "eval", 0, i, k) for k in range(each)] for i in range(len(problems))]
    sampling = evaluation_sampling(parts.evaluation, parts.rollout.sampling)
    snapshots = sorted(folder.glob("weights_*.pt"))
    found = []
    for path in [None, *snapshots]:
        if path is not None:
            policy.model.load_state_dict(torch.load(path, weights_only=True))
        groups = engine.generate(prompts, sampling, seeds)
        texts = [completion.text for group in groups for completion in group]
        verdicts = parts.verifier.verify(texts, golds)
        found.append(sum(v.correct for v in verdicts) / len(verdicts))
    parts.verifier.close()
    return found


def seconds_to(curve: Sequence[tuple[float, float]], accuracy: float) -> float | None:
    """When the curve first reaches ``accuracy``, on straight lines between its points."""
    for (t0, a0), (t1, a1) in pairwise(curve):
        if a1 >= accuracy:
            return t0 + (t1 - t0) * max(0.0, accuracy - a0) / max(a1 - a0, 1e-9)
    return None


def draw(runs: dict[str, list[Run]]) -> Figure:
    """Draw held-out accuracy, a line per run, over training seconds and over rollouts."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        ends = {}
        for index, (name, found) in enumerate(runs.items()):
            for run in found:
                seconds, values = zip(*run["curve"], strict=True)
                left.plot(seconds, values, **look(index))
                right.plot(range(len(values)), values, **look(index))
            ends[name] = statistics.mean(run["curve"][-1][1] for run in found)
        left.set(xlabel="seconds of training", ylabel="held-out avg@8", ylim=(0, 1))
        right.set_xlabel("rollouts")
        label_ends(right, ends)
    return figure


def table(runs: dict[str, list[Run]], goals: Sequence[float]) -> str:
    """Medians, and the ratio of each of our runs to TRL's beside it."""
    us, them = runs.values()
    lines = ["| what | nft_lightning | TRL | ratio, median (each pair) |", "|---|---|---|---|"]
    for label, key in (("whole loop", "seconds"), ("training phase", "training")):
        mine, yours = ([r["completions"] / r[key] for r in side] for side in (us, them))
        ratios = [a / b for a, b in zip(mine, yours, strict=True)]
        lines.append(row(f"samples per second, {label}", mine, yours, ratios, "{:.0f}"))
    for goal in goals:
        mine, yours = ([seconds_to(r["curve"], goal) for r in side] for side in (us, them))
        if None in mine or None in yours:
            lines.append(f"| seconds to avg@8 {goal} | not reached by all | | |")
            continue
        ratios = [b / a for a, b in zip(mine, yours, strict=True)]
        lines.append(row(f"seconds to avg@8 {goal}", mine, yours, ratios, "{:.1f}"))
    return "\n".join(lines) + "\n"


def row(label: str, mine: Any, yours: Any, ratios: Sequence[float], shape: str) -> str:
    """One line of the table."""
    middles = " | ".join(shape.format(statistics.median(v)) for v in (mine, yours))
    each = ", ".join(f"{r:.2f}" for r in ratios)
    return f"| {label} | {middles} | {statistics.median(ratios):.2f} ({each}) |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trl", required=True, help="python of an environment with trl")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--rollouts", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--search-rollouts", type=int, default=3)
    parser.add_argument("--model", help="folder of a model for the word problems")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--evaluate-every", type=int, default=1, help="rollouts")
    parser.add_argument("--goals", nargs="+", type=float, default=[0.5, 0.8], help="accuracies to reach")
    parser.add_argument("overrides", nargs="*", help="for nft-train")
    args = parser.parse_args()
    given = [*STORIES, f"model.path={args.model}"] if args.model else list(EMBEDDED)
    overrides = [*given, f"evaluation.every_epochs={args.evaluate_every}", *args.overrides]
    settings = {}
    for name in args.settings:
        with tempfile.TemporaryDirectory() as folder:
            where, setting = Path(folder), SETTINGS[name]
            run = theirs(args.trl, args.search_rollouts, 0, where, setting, overrides, scored=False)
        settings[name] = run["completions"] / run["seconds"]
        print(f"TRL, {name}: {settings[name]:.1f} samples per second", flush=True)
    best = max(settings, key=lambda name: settings[name])
    runs: dict[str, list[Run]] = {"nft_lightning": [], f"TRL ({best})": []}
    for pair in range(args.pairs):
        us, them = runs.values()
        with tempfile.TemporaryDirectory() as folder:
            where, setting = Path(folder), SETTINGS[best]
            us.append(ours(args.rollouts, pair, where, overrides))
            them.append(theirs(args.trl, args.rollouts, pair, where, setting, overrides, scored=True))
    made = facts("one thread per run")
    found = {"made": made, "overrides": overrides, "trl_settings": settings, "runs": runs}
    text = table(runs, args.goals)
    listed = ", ".join(f"{name} {speed:.1f}" for name, speed in settings.items())
    text += f"\nTRL's samples per second in {args.search_rollouts} rollouts by setting: {listed}.\n"
    save(args.out, f"{made['machine']}; {args.rollouts} rollouts per run\n\n{text}", found)
    (args.out / "curves.png").write_bytes(encoded(draw(runs), "png"))


if __name__ == "__main__":
    main()
