"""Tables and sentences with measured numbers, compared with the results files that they come from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from statistics import mean, median
from typing import Any

import pytest

from nft_lightning.common.text import interval
from nft_lightning.stats.intervals import over_seeds
from tests.docs.pages import ROOT

RESULTS = ROOT / "benchmarks" / "results"
# The page, the first cell of the head of the table, and the file whose rows hold each of its rows.
TABLES = [
    ("docs/plan.md", "model | tokens", "plan/memory.md"),
    ("docs/plan.md", "model | H100", "plan/published.md"),
    ("docs/plan.md", "GPUs | peak GiB", "plan/scaling.md"),
    ("docs/paper.md", "run | GPUs", "plan/scaling.md"),
    ("docs/compare.md", "seeds | interquartile", "bootstrap/results.md"),
    ("docs/compare.md", "seeds x problems", "intervals/results.md"),
    ("docs/compare.md", "problems x answers", "intervals/results.md"),
    (
        "docs/rollouts.md",
        "engine | tokens per second | relative to the plain one |\n",
        "rollouts/results.md",
    ),
    (
        "docs/rollouts.md",
        "engine | tokens per second | relative to the plain one | by",
        "rollouts_135m/results.md",
    ),
    ("docs/results.md", "algorithm | learning rate", "every_algorithm/results.md"),
    ("docs/results.md", "algorithm | seeds | before", "default/results.md"),
    ("docs/cold_start.md", "algorithm | rollouts | accuracy by seed", "smollm2_stories/results.md"),
    ("docs/cold_start.md", "difference | rollouts", "smollm2_stories/results.md"),
    ("docs/browse.md", "page | seconds", "browse/results.md"),
]


def cells(line: str) -> list[str]:
    """Return a row's cells as plain text; those without any are left out."""
    found = [cell.replace("`", "").strip() for cell in line.strip().strip("|").split("|")]
    return [cell for cell in found if cell]


def tables(text: str, head: str) -> list[list[list[str]]]:
    """Return the rows of each table whose head begins so."""
    found = []
    for start in re.finditer(rf"^\| {re.escape(head)}", text, re.MULTILINE):
        lines = text[start.start() :].split("\n\n")[0].splitlines()
        found.append([cells(line) for line in lines[2:]])
    return found


@pytest.mark.parametrize(("page", "head", "file"), TABLES, ids=[f"{p} {h[:20]}" for p, h, _ in TABLES])
def test_rows_are_those_of_the_results(page, head, file):
    known = [cells(line) for line in (RESULTS / file).read_text().splitlines() if line.startswith("|")]
    shown = [row for table in tables((ROOT / page).read_text(), head) for row in table]
    assert shown
    assert not [row for row in shown if row[0] != "0" and not any(set(row) <= set(k) for k in known)]


def test_the_seven_algorithms_are_as_the_report_says():
    (shown,) = tables((ROOT / "docs/results.md").read_text(), "algorithm | avg@8 at the end")
    levels, differences = (
        {
            row[0]: row
            for line in (RESULTS / "compare_all" / f"{name}.md").read_text().splitlines()[2:]
            if (row := cells(line))
        }
        for name in ("levels", "differences")
    )
    assert [row[0] for row in shown] == list(levels)
    for name, *values in shown:
        known = {*levels[name], *differences.get(f"{name} - nft", []), "0"}
        assert set(values) <= known, name


def read(name: str) -> Any:
    """Return a results file."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def last_of(run: dict[str, Any]) -> float:
    return float(run["curve"][-1][1])


def race(peer: str) -> list[str]:
    """Return accuracy at the end, theirs and ours; the differences at the end and over the curve."""
    ours, theirs = read(f"{peer}/results")["runs"].values()
    ends = [f"{mean(last_of(run) for run in side):.3f}" for side in (theirs, ours)]
    changes = []
    for figure in (last_of, lambda run: mean(accuracy for _, accuracy in run["curve"])):
        found = over_seeds([figure(a) - figure(b) for a, b in zip(ours, theirs, strict=True)])
        changes.append(interval(found.mean, found.low, found.high, "+"))
    return [*ends, *changes]


def race_ratios(peer: str) -> list[str]:
    ours, theirs = read(f"{peer}/results")["runs"].values()
    found = []
    for key in ("seconds", "training"):
        pairs = zip(ours, theirs, strict=True)
        ratios = [(a["completions"] / a[key]) / (b["completions"] / b[key]) for a, b in pairs]
        found += [f"{median(ratios):.2f}", f"{min(ratios):.2f}", f"{max(ratios):.2f}"]
    return found


def engines() -> list[str]:
    found = []
    for runs in read("vllm/results").values():
        seconds = sorted(run["seconds"] for run in runs)
        found += [f"{mean(run['after'] for run in runs):.3f}", f"{seconds[0]:.0f}", f"{seconds[-1]:.0f}"]
    return found


def engine_speeds() -> list[str]:
    found = []
    for name in ("rollouts_135m", "rollouts"):
        speeds = read(f"{name}/results")
        ratio = speeds["rollout=vllm"]["tokens_per_second"] / speeds["rollout=hf"]["tokens_per_second"]
        found.append(f"{ratio:.1f}")
    return found


def default_seconds() -> list[str]:
    seconds = sorted(run["seconds"] for run in read("default/results")["nft"])
    return [f"{seconds[0]:.0f}", f"{seconds[-1]:.0f}"]


def beside() -> list[str]:
    seconds = read("beside/results")["seconds"]
    one = seconds["one process"]
    gains = {way: [a / b for a, b in zip(one, found, strict=True)] for way, found in seconds.items()}
    engine = gains["an engine beside it"]
    return [
        f"{1 / median(engine):.2f}",
        f"{median(engine):.2f}",
        f"{min(engine):.2f}",
        f"{max(engine):.2f}",
        f"{median(gains['two DDP ranks']):.2f}",
    ]


def pruned() -> list[str]:
    found = read("pruning/results")
    whole = found["none"]
    shares = [
        f"{100 * found[name][key] / whole[key]:.1f}"
        for name in ("halving", "median")
        for key in ("updates", "tokens")
    ]
    return [f"{whole['accuracy']:.3f}", *shares]


def learning() -> list[str]:
    """What each change did to the mean of the last four evaluations."""
    found = read("learning/results")["runs"]
    base, *_ = found["grpo"]
    single, betas = base.replace("whole groups", "single completions"), base.replace("0.95", "0.999")
    cells = []
    for algorithm, setting in (
        ("grpo", single),
        ("nft", single),
        ("grpo", betas),
        ("grpo", f"{base}, sample standard deviation"),
    ):
        before, after = found[algorithm][base], found[algorithm][setting]
        change = over_seeds(
            [run["last four"] - before[seed]["last four"] for seed, run in after.items()]
        )
        cells.append(interval(change.mean, change.low, change.high, "+"))
    return cells


def tokens() -> list[str]:
    (row,) = [r for r in read("tokens/results") if (r["name"], r["size"]) == ("arrays", "512 x 512")]
    figures = row["figures"]
    held, gathered = figures["held_bytes_a_token"], figures["gathered_bytes_a_token"]
    return [f"{held:.1f}", f"{gathered:.1f}", f"{figures['batch_seconds']:.3f}"]


def reliability() -> list[str]:
    found = read("reliability/results")
    kills = [kill for kill in found["kills"] if kill["killed"] and not kill["differences"]]
    default = found["default"]
    return [
        f"{len(kills)}/{len(found['kills'])}",
        str(len(found["faults"])),
        f"{default['overhead']:.2%}",
        f"{default['resume_seconds_between_epochs']:.1f}",
        f"{default['resume_seconds_within_an_epoch']:.1f}",
    ]


def training_phase() -> list[str]:
    found = read("training_phase/results")
    return [f"{x:.2f}" for x in (found["ratio_median"], min(found["ratios"]), max(found["ratios"]))]


def ranks() -> list[str]:
    gains = read("ranks/results")["gains"]
    return [f"{x:.2f}" for x in (median(gains), min(gains), max(gains))]


def logprobs() -> list[str]:
    text = (RESULTS / "logprobs" / "cpu.txt").read_text()
    fused, plain = (re.search(rf"{way}: .* peak (\d+) MiB", text)[1] for way in ("fused", "plain"))
    return [fused, f"{int(plain):,}", re.search(r"time ([\d.]+)", text)[1]]


def verifier() -> list[str]:
    found = read("verifier/results")
    rollout = found["rollout"]
    return [
        f"{rollout['plain_seconds']:.1f}",
        f"{rollout['seconds']:.1f}",
        f"{rollout['ratio']:.1f}",
        f"{found['symbolic']['ratio']:.1f}",
        f"{rollout['pool_start_seconds']:.2f}",
        f"{1000 * found['responsive']['longest_gap_seconds']:.0f}",
        f"{found['adversarial']['longest_seconds']:.2f}",
        f"{found['adversarial']['peak_worker_mb']:.0f}",
        f"{found['killed']['timeouts']:,}",
    ]


def golds() -> list[str]:
    found = read("verifier/results")["golds"]
    assert set(found["outcomes"]) == {"correct"}
    return [f"{found['golds']:,}", f"{found['longest_seconds']:.1f}"]


def pools() -> list[str]:
    """Return pebble's share of our seconds, and how many good answers it lost on a busy machine."""
    rows = {name: cells for name, *cells in read("verifier_pools/results")["rows"]}
    assert rows["ours"][-2:] == ["0 lost", "works"]
    assert rows["pebble"][-1] == "an error"
    return [rows["pebble"][1], rows["pebble"][-2].removesuffix(" lost")]


def browsed() -> list[str]:
    found = read("browse/results")
    return [f"{found['completions']:,}", f"{found['mebibytes']:.0f}"]


def signed(found: dict[str, float]) -> str:
    return interval(found["mean"], found["low"], found["high"], "+")


def stories() -> list[str]:
    found = read("smollm2_stories/results")
    cells = [", ".join(f"{x:.3f}" for x in found["before"].values())]
    rows = {(row["algorithm"], row["rollouts"]): row for row in found["rows"]}
    for key in (("nft", 8), ("grpo", 8), ("nft", 12)):
        cells.append(", ".join(f"{x:.3f}" for x in rows[key]["by_seed"].values()))
        cells.append(signed(rows[key]["gain"][0]))
    return [*cells, signed(rows["grpo", 8]["less_nft"][0])]


def memory() -> list[str]:
    found = []
    for line in (RESULTS / "memory" / "cpu.md").read_text().splitlines():
        if line.startswith("| ") and not line.startswith("| option"):
            _, seconds, time_ratio, mib, memory_ratio = cells(line)
            found += [seconds, mib] if len(found) < 2 else [time_ratio, memory_ratio]
    return found


def verdicts() -> list[str]:
    found = []
    count = (RESULTS / "verdicts" / "results.md").read_text().split()[1]
    results = read("verdicts/results")
    for name, side in (("written otherwise", "math_verify"), ("made wrong", "math_verify")):
        rows = results[name].values()
        cases = sum(row["cases"] for row in rows)
        found += [f"{cases:,}", f"{100 * sum(row[side] for row in rows) / cases:.1f}"]
    assert all(row["ours"] == row["cases"] for row in results["written otherwise"].values())
    assert not any(row["ours"] for row in results["made wrong"].values())
    others = [kind for kind in results["written otherwise"] if kind != "as it is"]
    return [count, str(len(others)), *found]


# The page, what it says with {} for each number, and where the numbers come from.
SENTENCES: list[tuple[str, str, Callable[[], list[str]]]] = [
    (
        "README.md",
        "{} times as many samples per second",
        lambda: [f"{float(race_ratios('against_trl')[0]):.1f}"],
    ),
    (
        "README.md",
        "after twelve rollouts TRL reached {} and this project {}, a difference of {}",
        lambda: race("against_trl")[:3],
    ),
    (
        "docs/scale.md",
        "TRL ends at {}, this project at {}: {} paired by seed, and {} averaged over the curve.",
        lambda: race("against_trl"),
    ),
    (
        "docs/scale.md",
        "Theirs ends at {}, this project at {}: {} paired by seed, {} averaged over the curve.",
        lambda: race("against_rlhf_book"),
    ),
    (
        "docs/scale.md",
        "policy-gradient code | {} ({} to {}) | | | the training phase only | {} ({} to {}) |",
        lambda: race_ratios("against_rlhf_book"),
    ),
    (
        "docs/scale.md",
        "`GRPOTrainer` | {} ({} to {}) | | | the training phase only | {} ({} to {}) |",
        lambda: race_ratios("against_trl"),
    ),
    ("docs/scale.md", "without padding | {} ({} to {}) |", training_phase),
    ("docs/scale.md", "under DDP to one | {} ({} to {}) |", ranks),
    (
        "docs/scale.md",
        "{} MiB against {} MiB (the head's own gradient of 519 MiB in both), in {} times",
        logprobs,
    ),
    (
        "docs/scale.md",
        "| none | 1.00 ({} s) | 1.00 ({} MiB) | | gradient_checkpointing | {} | {} | | "
        "lora_rank=16 | {} | {} | "
        "| lora_rank=16, gradient_checkpointing | {} | {} | | precision=bf16-mixed | {} | {} | "
        "| precision=bf16-true | {} | {} | | compile | {} | {} |",
        memory,
    ),
    (
        "docs/rollouts.md",
        "{} ± 0.013 with `hf`, {} ± 0.029 with `vllm`, whose runs took {} to {} s where "
        "those of `hf` took {} to {} s",
        lambda: [engines()[i] for i in (0, 3, 4, 5, 1, 2)],
    ),
    (
        "docs/rollouts.md",
        "generates {} times the tokens of `rollout=hf` at 135 M parameters, {} times at",
        engine_speeds,
    ),
    (
        "docs/scale.md",
        "of the last four evaluations by {} for GRPO and by {} for NFT; over four seeds a second beta "
        "of AdamW of 0.999 changes GRPO's by {}, the sample standard deviation by {} (",
        learning,
    ),
    (
        "docs/scale.md",
        "512 x 512 tokens | {} and {} | | | processor seconds from that rollout to its batches | {} |",
        tokens,
    ),
    ("docs/index.md", "the run takes {} to {} seconds", default_seconds),
    ("README.md", "| one core, shared | {} to {} s of training |", default_seconds),
    (
        "docs/staleness.md",
        "took {} of the time of one process on one core, {} times its samples per second ({} "
        "to {} in three "
        "rounds); two ranks under DDP reached {} times",
        beside,
    ),
    (
        "docs/search.md",
        "same rate and accuracy ({}); successive halving trains {} % of the updates and {} % "
        "of the tokens of "
        "the unpruned search, the median pruner {} % and {} %",
        pruned,
    ),
    (
        "docs/results.md",
        "with identical results | {} | | faults injected ({} kinds, each with the outcome it "
        "should have) | 25/25 | "
        "| share of the default run's time that writing checkpoints takes | {} | "
        "| from the command to the first new update of a resumed run | {} to {} s |",
        reliability,
    ),
    (
        "docs/verifier.md",
        "plain loop of `parse` and `verify` | {} s | | the same through the verifier, no "
        "verdict differs | {} s, "
        "{} times as fast | | 800 distinct cases that all need math-verify, against the same "
        "loop | {} times as fast, "
        "two workers |",
        lambda: verifier()[:4],
    ),
    ("docs/verifier.md", "the slowest of {} golds compared with themselves took {} s", golds),
    (
        "docs/verifier.md",
        "pebble's `ProcessPool` took {} times our seconds and passed the same kills, but its deadline "
        "is wall time alone, so that with twelve busy processes beside it {} of 30",
        pools,
    ),
    ("docs/browse.md", "a run of {} completions ({} MiB of Parquet)", browsed),
    ("docs/verifier.md", "| start of the pool | {} s |", lambda: verifier()[4:5]),
    ("docs/verifier.md", "completions are verified | {} ms |", lambda: verifier()[5:6]),
    ("docs/verifier.md", "code that ran | {} s, 0, none |", lambda: verifier()[6:7]),
    ("docs/verifier.md", "limit 1,024 MiB | {} MiB |", lambda: verifier()[7:8]),
    ("docs/verifier.md", "killed at 0.1 s | {}; 2 of 2", lambda: verifier()[8:9]),
    (
        "docs/verifier.md",
        "On the {} different golds of the evaluation sets, as they are and written in {} other ways "
        "({} right answers), math-verify's verdicts with E-notation as a power of ten were right for "
        "{} %, these for all. Of {} golds made wrong (another exponent, base, relation or digit, one "
        "term less, a multiplier, a relation in front), {} % were called right by it, and none by "
        "this verifier",
        verdicts,
    ),
    (
        "README.md",
        "| the cold start | | {} | | | 8 rollouts of 32 problems x 8 | NFT | {} | {} | "
        "| 8 rollouts of 32 problems x 8 | GRPO | {} | {} | | 12 rollouts | NFT | {} | {} | "
        "At the same learning rate NFT and GRPO are not significantly different after eight rollouts: "
        "GRPO less NFT is {}, paired",
        stories,
    ),
]


@pytest.mark.parametrize(
    ("page", "sentence", "numbers"), SENTENCES, ids=[f"{p} {s[:40]}" for p, s, _ in SENTENCES]
)
def test_sentences_say_what_the_results_say(page, sentence, numbers):
    text = " ".join((ROOT / page).read_text().split())
    assert sentence.format(*numbers()) in text
