"""A race of our whole loop with another project's trainer: one config, one thread, in turn.

What the scripts ``against_*.py`` share. A peer is a script that an interpreter of its own runs with
the path of a job: the model, the rendered prompts with their answers, and the settings, read from the
config of our side. It writes ``result.json`` (the seconds of the loop and of its parts) and the weights
after every ``keep_every`` rollouts, ``weights_NUMBER.pt``. Held-out accuracy comes from our engine and
verifier for both sides, and is not timed.
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from measuring import ONE_THREAD, facts, paired, save, stated

from nft_lightning.app.parts import Parts, build_parts
from nft_lightning.assets import tiny_policy_path
from nft_lightning.cli.entry import compose_or_explain
from nft_lightning.common.pictures import STYLE, encoded, label_ends, look
from nft_lightning.common.text import markdown
from nft_lightning.compare.runs import read_evaluation
from nft_lightning.engines.base import completion_seed
from nft_lightning.engines.hf.engine import HFEngine
from nft_lightning.training.held_out import evaluation_sampling

Run = dict[str, Any]
US = "nft_lightning"
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


@dataclass
class Peer:
    """Another project's trainer: its name, the interpreter and the script that run it, its settings."""

    name: str
    python: str
    script: Path
    settings: dict[str, Run]
    job: Run = field(default_factory=dict)


@dataclass
class Race:
    """What both sides are given, and how long they run."""

    overrides: Sequence[str]
    rollouts: int
    search_rollouts: int
    pairs: int
    goals: Sequence[float]


def words(rollouts: int, seed: int, overrides: Sequence[str]) -> list[str]:
    """Return what nft-train is given; the peer's settings are read from the same config."""
    return [
        *COMMON,
        "evaluation.every_epochs=1",
        *overrides,
        f"trainer.max_epochs={rollouts}",
        f"seed={seed}",
    ]


def ours(rollouts: int, seed: int, folder: Path, overrides: Sequence[str]) -> Run:
    """Train once with nft-train."""
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
    """Return training seconds and held-out accuracy, from the run's own records."""
    paths = sorted((run_dir / "evaluations").glob("*.parquet"))
    found = [read_evaluation([path]) for path in paths]
    return [(float(e.axes["seconds"]), float(e.accuracy.mean())) for e in found]


def theirs(
    peer: Peer,
    rollouts: int,
    seed: int,
    folder: Path,
    setting: Run,
    overrides: Sequence[str],
    scored: bool,
) -> Run:
    """Train once with the peer, in its own environment."""
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
        **peer.job,
        **setting,
    }
    (folder / "job.json").write_text(json.dumps(job))
    command = [peer.python, str(peer.script), str(folder / "job.json")]
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
    """Return held-out accuracy of the start and of each snapshot, as our own runs measure it."""
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
    """Return the seconds at the first of two evaluations in a row that reach ``accuracy``."""
    for (seconds, first), (_, second) in pairwise(curve):
        if min(first, second) >= accuracy:
            return seconds
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


def figures(curve: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Return of a held-out curve its end, the mean of its last four accuracies and that of all."""
    accuracies = [accuracy for _, accuracy in curve]
    return {
        "end": accuracies[-1],
        "last four": statistics.mean(accuracies[-4:]),
        "whole curve": statistics.mean(accuracies),
    }


def learning(runs: dict[str, list[Run]]) -> str:
    """Return both sides' accuracy at the end and over the curve, and the differences paired by seed."""
    us, them = ([figures(run["curve"]) for run in side] for side in runs.values())
    rows = []
    labels = {
        "end": "at the end",
        "last four": "mean of the last four",
        "whole curve": "mean of the curve",
    }
    for figure, label in labels.items():
        middles = [f"{statistics.mean(run[figure] for run in side):.3f}" for side in (us, them)]
        differences = [mine[figure] - yours[figure] for mine, yours in zip(us, them, strict=True)]
        rows.append([f"held-out avg@8, {label}", *middles, paired(differences)])
    return markdown(["accuracy", *runs, "ours less theirs"], rows)


def speed(runs: dict[str, list[Run]], goals: Sequence[float]) -> str:
    """Return medians, and the ratio of each of our runs to the peer's beside it."""
    us, them = runs.values()
    rows = []
    for label, key in (("whole loop", "seconds"), ("training phase", "training")):
        mine, yours = ([r["completions"] / r[key] for r in side] for side in (us, them))
        ratios = [a / b for a, b in zip(mine, yours, strict=True)]
        rows.append(row(f"samples per second, {label}", mine, yours, ratios, "{:.0f}"))
    for goal in goals:
        mine, yours = ([seconds_to(r["curve"], goal) for r in side] for side in (us, them))
        if None in mine or None in yours:
            reached = [
                f"{sum(s is not None for s in side)} of {len(side)} runs" for side in (mine, yours)
            ]
            rows.append([f"seconds to avg@8 {goal}", *reached, ""])
            continue
        ratios = [b / a for a, b in zip(mine, yours, strict=True)]
        rows.append(row(f"seconds to avg@8 {goal}", mine, yours, ratios, "{:.1f}"))
    return markdown(["speed", *runs, "ratio, median (least to greatest)"], rows)


def row(label: str, mine: Any, yours: Any, ratios: Sequence[float], shape: str) -> list[str]:
    """Return one row of the table of speeds."""
    middles = [shape.format(statistics.median(side)) for side in (mine, yours)]
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return [label, *middles, spread]


def run_race(peer: Peer, race: Race, out: Path) -> None:
    """Find the peer's fastest setting, run the pairs, and write the results after each pair."""
    settings = {}
    for name, setting in peer.settings.items():
        with tempfile.TemporaryDirectory() as folder:
            where = Path(folder)
            run = theirs(peer, race.search_rollouts, 0, where, setting, race.overrides, scored=False)
        settings[name] = run["completions"] / run["seconds"]
        print(f"{peer.name}, {name}: {settings[name]:.1f} samples per second", flush=True)
    best = max(settings, key=lambda name: settings[name])
    runs: dict[str, list[Run]] = {US: [], f"{peer.name} ({best})": []}
    for seed in range(race.pairs):
        us, them = runs.values()
        with tempfile.TemporaryDirectory() as folder:
            where, setting = Path(folder), peer.settings[best]
            us.append(ours(race.rollouts, seed, where, race.overrides))
            them.append(theirs(peer, race.rollouts, seed, where, setting, race.overrides, scored=True))
        write(peer, race, settings, runs, out)


def write(
    peer: Peer, race: Race, settings: dict[str, float], runs: dict[str, list[Run]], out: Path
) -> None:
    """Write ``results.json``, ``results.md`` and ``curves.png``."""
    made = facts("one thread per run")
    listed = ", ".join(f"{name} {found:.1f}" for name, found in settings.items())
    text = (
        f"{stated(made)}; {len(runs[US])} seeds, {race.rollouts} rollouts per run\n\n"
        f"{learning(runs)}\n{speed(runs, race.goals)}\n"
        f"{peer.name}'s samples per second in {race.search_rollouts} rollouts by setting: {listed}.\n"
    )
    data = {"made": made, "overrides": list(race.overrides), "peer_settings": settings, "runs": runs}
    save(out, text, data)
    (out / "curves.png").write_bytes(encoded(draw(runs), "png"))
