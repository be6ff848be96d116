"""How fast and how safe the verifier is, against plain math-verify, TRL and verl.

    python benchmarks/verifier.py --out benchmarks/results/verifier --peer-python PEERS/bin/python

``--data`` is a folder with math_train/dapo_math_17k.jsonl and math_train/math_train.jsonl ("answer" on
each line). ``--peer-python`` is an environment with trl 1.16.0 and verl 0.9.1; without it their rows are
left out. All times are of one run on one machine: read the ratios. Writes results.json and results.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from measuring import facts, python, stated  # noqa: E402
from verifier_cases import FILES, rollout, symbolic  # noqa: E402

from nft_lightning.verifiers.extract import last_boxed  # noqa: E402
from nft_lightning.verifiers.math.verifier import MathVerifier  # noqa: E402
from tests.verifiers.adversarial import thousand  # noqa: E402

Cases = list[tuple[str, str]]


def plain_loop(cases: Cases) -> tuple[float, list[bool]]:
    """math-verify's parse and verify, case after case, on the last box alone."""
    from math_verify import parse, verify

    parse("\\boxed{\\frac{1}{2}}")  # its regular expressions compile once
    started, right = time.perf_counter(), []
    for text, gold in cases:
        answer = last_boxed(text)
        found = parse(f"\\boxed{{{answer}}}") if answer else []
        right.append(bool(found) and verify(parse(f"\\boxed{{{gold}}}"), found))
    return time.perf_counter() - started, right


def ours(cases: Cases, verifier: MathVerifier) -> tuple[float, list[bool], Counter[str]]:
    """The same through the verifier, its pool started."""
    texts, golds = [t for t, _ in cases], [g for _, g in cases]
    started = time.perf_counter()
    verdicts = verifier.verify(texts, golds)
    seconds = time.perf_counter() - started
    return seconds, [v.correct for v in verdicts], Counter(v.outcome for v in verdicts)


def compare(name: str, cases: Cases, before: Cases) -> dict[str, Any]:
    """One batch both ways, by processes that have judged ``before``, as from a run's second epoch on."""
    verifier = MathVerifier(workers=2)
    started = time.perf_counter()
    verifier.pool.fill()
    start_seconds = time.perf_counter() - started
    ours(before, verifier)
    seconds, right, outcomes = ours(cases, verifier)
    verifier.close()
    plain_loop(before)
    plain_seconds, plain_right = plain_loop(cases)
    differing = [
        (*case, mine) for case, mine, his in zip(cases, right, plain_right, strict=True) if mine != his
    ]
    print(
        f"{name}: {seconds:.1f} s, plain loop {plain_seconds:.1f} s, {len(differing)} differ", flush=True
    )
    return {
        "cases": len(cases),
        "distinct": len({(last_boxed(t), g) for t, g in cases}),
        "seconds": seconds,
        "plain_seconds": plain_seconds,
        "ratio": plain_seconds / seconds,
        "pool_start_seconds": start_seconds,
        "outcomes": dict(outcomes),
        "differing": differing[:20],
        "right": right,
    }


def responsive(cases: Cases) -> dict[str, float]:
    """The longest time the process's other threads stood still while the main one verified."""
    gaps, stop = list[float](), threading.Event()

    def beat() -> None:
        last = time.perf_counter()
        while not stop.wait(0.01):
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    verifier = MathVerifier(workers=2)
    verifier.pool.fill()
    thread = threading.Thread(target=beat)
    cpu, wall = time.process_time(), time.perf_counter()
    thread.start()
    verifier.verify([t for t, _ in cases], [g for _, g in cases])
    stop.set()
    thread.join()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    verifier.close()
    return {
        "longest_gap_seconds": max(gaps),
        "own_cpu_seconds": cpu,
        "seconds": wall,
        "beats": len(gaps),
    }


class Watch(threading.Thread):
    """Samples the address space of the pool's workers."""

    def __init__(self, verifier: MathVerifier) -> None:
        super().__init__(daemon=True)
        self.verifier, self.peak_mb, self.stop = verifier, 0.0, threading.Event()

    def run(self) -> None:
        while not self.stop.wait(0.02):
            server = self.verifier.pool.server
            if server is not None:
                for pid in children(server.process.pid):
                    self.peak_mb = max(self.peak_mb, peak_memory_mb(pid))


def children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def peak_memory_mb(pid: int) -> float:
    """VmPeak, what the limit is about; 0 where the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(x.split()[1]) / 1024 for x in lines if x.startswith("VmPeak")), 0.0)


def adversarial(timeout_seconds: float = 1.0) -> dict[str, Any]:
    """1,000 adversarial completions, and then 1,000 that all have to be killed."""
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary"
        cases = thousand(str(canary))
        verifier = MathVerifier(workers=2, timeout_seconds=timeout_seconds)
        watch = Watch(verifier)
        watch.start()
        started = time.perf_counter()
        verdicts = verifier.verify([c.pred for c in cases], [c.gold for c in cases])
        seconds = time.perf_counter() - started
        watch.stop.set()
        unexpected = [
            c.name for c, v in zip(cases, verdicts, strict=True) if v.outcome not in c.expected
        ]
        found = {
            "cases": len(cases),
            "kinds": len({c.name for c in cases}),
            "seconds": seconds,
            "timeout_seconds": timeout_seconds,
            "longest_seconds": max(v.seconds for v in verdicts),
            "peak_worker_mb": watch.peak_mb,
            "memory_limit_mb": verifier.memory_limit_mb,
            "outcomes": dict(Counter(v.outcome for v in verdicts)),
            "unexpected": unexpected,
            "executed": canary.exists(),
            "workers_left": len(verifier.pool.idle),
        }
        verifier.close()
    print(f"adversarial: {seconds:.0f} s, longest {found['longest_seconds']:.2f} s", flush=True)
    return found


def all_killed(jobs: int = 1000, timeout_seconds: float = 0.1) -> dict[str, Any]:
    """Every job hangs: the pool must be whole at the end."""
    verifier = MathVerifier(workers=2, timeout_seconds=timeout_seconds)
    verifier.pool.fill()
    started = time.perf_counter()
    # Just below what is recognised as too large to compute: a single C call of some 17 s.
    verdicts = verifier.verify([f"\\boxed{{7^{{20000000}}+{i}}}" for i in range(jobs)], ["5"] * jobs)
    seconds = time.perf_counter() - started
    again = verifier.verify([f"\\boxed{{x+{i}}}" for i in range(8)], [f"{i}+x" for i in range(8)])
    server = verifier.pool.server
    processes = len(children(server.process.pid)) if server else 0
    verifier.close()
    return {
        "jobs": jobs,
        "timeouts": sum(v.outcome == "timeout" for v in verdicts),
        "seconds": seconds,
        "overhead_ms_per_kill": (seconds - jobs * timeout_seconds / 2) / jobs * 2000,
        "right_afterwards": all(v.correct for v in again),
        "processes_afterwards": processes,
    }


def peers(cases: Cases, python: str) -> dict[str, Any]:
    """TRL and verl in their own interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "cases.json", Path(folder) / "out.json"
        given.write_text(json.dumps(cases))
        script = ROOT / "benchmarks" / "verifier_peers.py"
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        subprocess.run([python, script, given, made], check=True, env=environment)
        return dict(json.loads(made.read_text()))


def rollout_section(given: argparse.Namespace) -> dict[str, Any]:
    """A rollout by the plain loop and by ours."""
    result = compare(
        "rollout", rollout(given.data, given.problems), rollout(given.data, BEFORE_PROBLEMS, seed=7)
    )
    del result["right"]
    return result


def peers_section(given: argparse.Namespace) -> dict[str, Any]:
    """A rollout by ours and by the peers, nothing where there is no interpreter for them."""
    if not given.peer_python:
        return {}
    cases = rollout(given.data, given.peer_problems)
    verifier = MathVerifier(workers=2)
    verifier.pool.fill()
    seconds, right, _ = ours(cases, verifier)
    verifier.close()
    rows = {"nft_lightning": {"seconds": seconds, "scores": [float(r) for r in right]}}
    for row in (rows := rows | peers(cases, given.peer_python)).values():
        scores = [s == 1.0 for s in row.pop("scores")]
        row["called_right"] = sum(scores)
        row["agreement"] = sum(a == b for a, b in zip(scores, right, strict=True)) / len(right)
    return {"cases": len(cases), "rows": rows}


def symbolic_section(given: argparse.Namespace) -> dict[str, Any]:
    """Cases that all need math-verify."""
    result = compare(
        "symbolic", symbolic(given.data, given.symbolic), symbolic(given.data, BEFORE_PROBLEMS, seed=7)
    )
    del result["right"]
    return result


def golds_section(given: argparse.Namespace) -> dict[str, Any]:
    """Every gold of the data folder compared with itself, as many times as problems have it."""
    texts = []
    for path in sorted(given.data.rglob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").split("\n")
        texts += [str(json.loads(line)["answer"]) for line in lines if line]
    verifier = MathVerifier(workers=2)
    verdicts = verifier.verify([f"\\boxed{{{text}}}" for text in texts], texts)
    verifier.close()
    return {
        "golds": len(texts),
        "distinct": len(set(texts)),
        "longest_seconds": max(v.seconds for v in verdicts),
        "outcomes": dict(Counter(v.outcome for v in verdicts)),
    }


BEFORE_PROBLEMS = 128
SECTIONS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "rollout": rollout_section,
    "peers": peers_section,
    "symbolic": symbolic_section,
    "responsive": lambda given: responsive(rollout(given.data, given.problems)),
    "adversarial": lambda given: adversarial(),
    "killed": lambda given: all_killed(),
    "golds": golds_section,
}


def table(results: dict[str, Any]) -> str:
    """The figures as Markdown."""
    batch, hard = results["rollout"], results["symbolic"]
    lines = [
        "| batch | cases | distinct | plain loop | ours, 2 workers | ratio | verdicts that differ |"
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    for name, r in (("a rollout of 512 x 16", batch), ("math-verify needed everywhere", hard)):
        lines.append(
            f"| {name} | {r['cases']:,} | {r['distinct']:,} | {r['plain_seconds']:.1f} s | "
            f"{r['seconds']:.1f} s | {r['ratio']:.1f} | {len(r['differing'])} |"
        )
    if results["peers"]:
        rows, cases = results["peers"]["rows"], results["peers"]["cases"]
        lines += ["", f"| a rollout of {cases:,} | seconds | times ours | called right | agrees |"]
        lines += ["|---|---|---|---|---|"]
        for name, r in rows.items():
            times = r["seconds"] / rows["nft_lightning"]["seconds"]
            lines.append(
                f"| {name} | {r['seconds']:.1f} | {times:.1f} | {r['called_right']:,} | "
                f"{r['agreement']:.2%} |"
            )
    else:
        lines += ["", "TRL and verl were left out: no --peer-python was given."]
    a, k, q = results["adversarial"], results["killed"], results["responsive"]
    golds = results["golds"]
    lines += [
        "",
        "| what | measured |",
        "|---|---|",
        f"| start of the pool | {batch['pool_start_seconds']:.2f} s |",
        f"| longest pause of another thread while 8,192 completions are verified | "
        f"{q['longest_gap_seconds'] * 1000:.0f} ms |",
        f"| CPU time of the trainer's process for them | {q['own_cpu_seconds']:.2f} s |",
        f"| {a['cases']:,} adversarial completions of {a['kinds']} kinds, deadline "
        f"{a['timeout_seconds']:.0f} s: longest | {a['longest_seconds']:.2f} s |",
        f"| unexpected verdicts, code that ran | {len(a['unexpected'])}, "
        f"{'yes' if a['executed'] else 'none'} |",
        f"| largest address space of a worker, limit {a['memory_limit_mb']} MiB | "
        f"{a['peak_worker_mb']:.0f} MiB |",
        f"| {k['jobs']:,} jobs that all hang: killed, cost of a kill and a new worker | "
        f"{k['timeouts']:,}, {k['overhead_ms_per_kill']:.0f} ms |",
        f"| workers at the end of them | {k['processes_afterwards']} of 2 |",
        f"| {golds['golds']:,} golds of the data, each compared with itself: longest | "
        f"{golds['longest_seconds']:.2f} s |",
    ]
    made: dict[str, list[str]] = {}
    for name in SECTIONS:
        made.setdefault(stated(results[name]["made"]), []).append(name)
    origins = "; ".join(f"{', '.join(names)}: commit {origin}" for origin, names in made.items())
    return "\n".join(lines) + f"\n\nTimes of one row are of one run. {origins}.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--peer-python", help="interpreter with trl and verl")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), help="sections; others are kept")
    parser.add_argument("--problems", type=int, default=512)
    parser.add_argument("--peer-problems", type=int, default=512)
    parser.add_argument("--symbolic", type=int, default=800)
    given = parser.parse_args()
    missing = [n for n in FILES if not (given.data / "math_train" / n).is_file()]
    if missing:
        sys.exit(f"error: --data={given.data} holds no math_train/{missing[0]}: give the data folder.")
    logging.disable(logging.CRITICAL)
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / "results.json"
    results = json.loads(file.read_text()) if given.only and file.exists() else {}
    for name in given.only or SECTIONS:
        results[name] = {**SECTIONS[name](given), "made": facts(python())}
        file.write_text(json.dumps(results, indent=1) + "\n")
    if all(name in results for name in SECTIONS):
        text = table(results)
        (given.out / "results.md").write_text(text)
        print(text)


if __name__ == "__main__":
    main()
