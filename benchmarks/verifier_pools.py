"""Our pool of killable workers against that of pebble, on the same jobs.

    python benchmarks/verifier_pools.py --out benchmarks/results/verifier_pools

Needs pebble, which the project does not. Jobs are what math-verify judges of ``--cases`` symbolic
answers in each round; two workers, each pool in turn, the median of the rounds. Workers of both are
forked from a process that has imported the scorer and filled its caches, with the same limit of memory.
Then twenty good answers with one in their middle that hangs, dies, recurses or takes too much memory;
good answers with a deadline of 0.1 s on a busy machine; and a forked copy of the process.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from measuring import facts, python, save  # noqa: E402
from verifier_cases import symbolic  # noqa: E402

from nft_lightning.common.text import markdown  # noqa: E402
from nft_lightning.verdict import Verdict  # noqa: E402
from nft_lightning.verifiers.math import score as scorer  # noqa: E402
from nft_lightning.verifiers.math.verifier import MathVerifier  # noqa: E402
from nft_lightning.verifiers.sandbox.pool import Job, WorkerPool  # noqa: E402
from nft_lightning.verifiers.sandbox.worker import confine  # noqa: E402

SELF, WORKERS, TIMEOUT_SECONDS, MEMORY_MB = "verifier_pools", 2, 3.0, 1024
FAULTS: dict[str, Callable[[], Any]] = {
    "hangs in one C call": lambda: 7**20_000_000 % (7**10_000_000 + 1),
    "os._exit": lambda: os._exit(3),
    "segmentation fault": lambda: ctypes.string_at(0),
    "endless recursion": lambda: recurse(0),
    "more memory than allowed": lambda: bytearray(MEMORY_MB * 2**21),
}


def recurse(depth: int) -> int:
    return recurse(depth + 1) + 1


def judge(how: str, answer: str, gold: str) -> Verdict:
    """The math scorer's verdict, unless the answer is one of ``FAULTS``."""
    if answer in FAULTS:
        FAULTS[answer]()
    return scorer.judge(how, answer, gold)


def prepare() -> Any:
    return scorer.prepare()


def outcome(job: Job) -> str:
    try:
        return judge(*job).outcome
    except Exception:
        return "error"


class Ours:
    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.pool = WorkerPool(SELF, WORKERS, timeout_seconds, MEMORY_MB)
        self.pool.fill()

    def run(self, jobs: list[Job]) -> list[str]:
        return [verdict.outcome for verdict in self.pool.run(jobs)]

    def close(self) -> None:
        self.pool.close()


def forkserver() -> Any:
    """A context whose processes are forked from one that knows the scorer."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([SELF])
    return context


class Pebble:
    """One job a task: a chunk that is late would be lost as a whole."""

    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        from pebble import ProcessPool

        self.timeout_seconds = timeout_seconds
        self.pool = ProcessPool(
            WORKERS, initializer=confine, initargs=(MEMORY_MB,), context=forkserver()
        )

    def run(self, jobs: list[Job]) -> list[str]:
        futures = [self.pool.schedule(outcome, [job], timeout=self.timeout_seconds) for job in jobs]
        return [result(future) for future in futures]

    def close(self) -> None:
        self.pool.stop()
        self.pool.join()


def result(future: Any, seconds: float | None = None) -> str:
    try:
        return future.result(seconds)
    except TimeoutError:
        return "timeout"
    except Exception:
        return "error"


POOLS = {"ours": Ours, "pebble": Pebble}


def symbolic_jobs(folder: Path, count: int) -> list[Job]:
    verifier = MathVerifier()
    answers = [(text.removeprefix("\\boxed{")[:-1], gold) for text, gold in symbolic(folder, count)]
    found = [verifier.at_once(answer, gold) for answer, gold in answers]
    return [job for job in found if not isinstance(job, str)]


def fault_outcome(kind: Any, fault: str) -> str:
    """What the bad answer got, and how many of twenty good ones were lost with it."""
    good = [("box+answer", f"x+{i}", f"{i}+x") for i in range(20)]
    jobs = [*good[:10], ("box+answer", fault, "5"), *good[10:]]
    pool = kind()
    pool.run(good[:4])
    started = time.perf_counter()
    outcomes = pool.run(jobs)
    seconds = time.perf_counter() - started
    after = pool.run(good)
    pool.close()
    bad = outcomes.pop(10)
    lost = sum(found != "correct" for found in [*outcomes, *after])
    return f"{bad}, {lost} lost, {seconds:.1f} s"


def starved_outcome(kind: Any) -> str:
    """How many of 30 good answers are lost where twelve busy processes share the cores."""
    pool = kind(0.1)
    pool.run([("box+answer", "x+1", "1+x")] * 4)
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(12)]
    try:
        jobs = [("box+answer", f"\\sqrt{{x}}+{i}", f"{i}+\\sqrt{{x}}") for i in range(30)]
        outcomes = pool.run(jobs)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    pool.close()
    return f"{sum(found != 'correct' for found in outcomes)} lost"


def forked_outcome(kind: Any) -> str:
    """What a forked copy of the process, such as a loader's worker, gets from the pool."""
    pool = kind()
    pool.run([("box+answer", "x+1", "1+x")] * 4)
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # ends a copy that hangs
        os._exit(pool.run([("box+answer", "x+2", "2+x")]) != ["correct"])
    _, status = os.waitpid(pid, 0)
    pool.close()
    if os.WIFSIGNALED(status):
        return "hangs"
    return "an error" if status else "works"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--cases", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    os.environ["PREPARE_SCORER"] = "yes"
    # Each round has jobs of its own: the workers' caches know no answer that was judged before.
    jobs = symbolic_jobs(given.data, given.cases * (given.rounds + 1))
    each = len(jobs) // (given.rounds + 1)
    seconds: dict[str, list[float]] = {name: [] for name in POOLS}
    pools = {name: POOLS[name]() for name in POOLS}
    for pool in pools.values():
        pool.run(jobs[:each])  # workers start, and caches fill
    differing = 0
    for i in range(1, given.rounds + 1):
        outcomes = []
        for name, pool in pools.items():
            started = time.perf_counter()
            outcomes.append(pool.run(jobs[i * each : (i + 1) * each]))
            seconds[name].append(time.perf_counter() - started)
            print(name, f"{seconds[name][-1]:.2f} s", flush=True)
        differing += sum(len(set(same)) > 1 for same in zip(*outcomes, strict=True))
    for pool in pools.values():
        pool.close()
    ours = seconds["ours"]
    rows = []
    for name, found in seconds.items():
        ratio = statistics.median(other / own for own, other in zip(ours, found, strict=True))
        faults = [fault_outcome(POOLS[name], fault) for fault in FAULTS]
        faults += [starved_outcome(POOLS[name]), forked_outcome(POOLS[name])]
        rows.append([name, f"{statistics.median(found):.2f}", f"{ratio:.2f}", *faults])
        print(rows[-1], flush=True)
    made = facts(python())
    about = (
        f"{each} jobs in each of {given.rounds} rounds, {differing} verdicts that differ; "
        f"{made['machine']}; {made['commit']}, {made['date']}"
    )
    text = f"{about}\n\n" + markdown(
        ["pool", "seconds", "times ours", *FAULTS, "busy machine", "forked copy"], rows
    )
    save(
        given.out, text, {**made, "jobs": each, "differing": differing, "seconds": seconds, "rows": rows}
    )


# The process that forks the workers of multiprocessing and its like imports this module.
if __name__ != "__main__" and os.environ.pop("PREPARE_SCORER", None):
    for step in prepare():
        step()

if __name__ == "__main__":
    # Under its own name, by which workers find the functions.
    import verifier_pools

    verifier_pools.main()
