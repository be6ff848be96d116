"""Hung, greedy and dying workers; threads, forks and a parent that is killed."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nft_lightning.verifiers.math.verifier import SCORER as MATH
from nft_lightning.verifiers.math.verifier import MathVerifier
from nft_lightning.verifiers.sandbox.pool import WorkerPool
from nft_lightning.verifiers.sandbox.process import STARVED_DEADLINES, Worker
from tests.verifiers.adversarial import longest_seconds

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
# Just below what is recognised as too large: some 17 s of work in one C call.
HANGS = "7^{20000000}"


def hanging(count: int) -> list[tuple[str, str, str]]:
    return [("box+answer", f"{HANGS}+{i}", "5") for i in range(count)]


def symbolic(count: int) -> list[tuple[str, str, str]]:
    return [("box+answer", f"x+{i}", f"{i}+x") for i in range(count)]


def alive(pid: int) -> bool:
    """True for a process that is more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def gone(pids: list[int], seconds: float = 10.0) -> bool:
    end = time.perf_counter() + seconds
    while any(map(alive, pids)) and time.perf_counter() < end:
        time.sleep(0.02)
    return not any(map(alive, pids))


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def pool():
    made = WorkerPool(MATH, 2, 1.0)
    yield made
    made.close()


def test_results_keep_the_order_and_the_hung_ones_cost_nothing_else(pool):
    jobs = symbolic(30)
    jobs[3:3] = hanging(1)
    jobs[17:17] = hanging(1)
    jobs.append(("box+answer", "y", "x"))
    started = time.perf_counter()
    outcomes = [v.outcome for v in pool.run(jobs)]
    assert outcomes.pop(17) == outcomes.pop(3) == "timeout"
    assert outcomes == ["correct"] * 30 + ["wrong"]
    assert time.perf_counter() - started < 60


def test_nobody_hangs_past_the_deadline_and_the_pool_stays_full():
    pool = WorkerPool(MATH, 2, 0.1)
    verdicts = pool.run(hanging(100))
    assert {v.outcome for v in verdicts} == {"timeout"}
    assert all(v.seconds >= 0.1 for v in verdicts)
    assert max(v.seconds for v in verdicts) < longest_seconds(0.1)
    assert len(pool.idle) == 2
    assert sorted(w.pid for w in pool.idle) == sorted(children(pool.server.process.pid))
    assert all(v.correct for v in pool.run(symbolic(4)))
    pool.close()


def test_the_pool_starts_quickly_and_without_torch(pool):
    started = time.perf_counter()
    pool.fill()
    assert time.perf_counter() - started < 20
    assert len(pool.idle) == 2
    maps = [Path(f"/proc/{w.pid}/maps").read_text() for w in pool.idle]
    assert not any("libtorch" in m for m in maps)


def test_a_worker_that_does_not_answer_is_not_waited_for(pool):
    """Stopped, it is not starved: the deadline counts as it is."""
    pool.fill()
    for worker in pool.idle:
        os.kill(worker.pid, signal.SIGSTOP)
    started = time.perf_counter()
    verdicts = pool.run(symbolic(6))
    assert sorted(v.outcome for v in verdicts)[:4] == ["correct"] * 4
    assert sum(v.outcome == "timeout" for v in verdicts) == 2
    assert time.perf_counter() - started < 20


def test_idle_workers_that_died_are_replaced_before_they_get_a_job(pool):
    pool.run(symbolic(2))
    pids = [w.pid for w in pool.idle]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert gone(pids)
    assert [v.outcome for v in pool.run(symbolic(4))] == ["correct"] * 4


def test_a_worker_that_dies_at_work_is_an_error_never_wrong(pool):
    pool.timeout_seconds = 30
    pool.fill()
    done: list[str] = []
    thread = threading.Thread(target=lambda: done.extend(v.outcome for v in pool.run(hanging(1))))
    pids = [w.pid for w in pool.idle]
    thread.start()
    time.sleep(0.5)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    thread.join(60)
    assert done == ["error"]
    assert pool.run(symbolic(1))[0].correct


def test_the_fork_server_may_die_too(pool):
    pool.run(symbolic(2))
    workers = [w.pid for w in pool.idle]
    os.kill(pool.server.process.pid, signal.SIGKILL)
    assert gone(workers)
    assert [v.outcome for v in pool.run(symbolic(3))] == ["correct"] * 3


def test_memory_is_limited_and_running_out_is_an_error(tmp_path):
    code = (
        "import json, socket, sys\n"
        "from nft_lightning.verdict import Verdict\n"
        "from nft_lightning.verifiers.sandbox import worker\n"
        "def greedy(how, answer, gold):\n"
        "    return Verdict('correct', str(len(bytearray(int(answer)))))\n"
        "mine, theirs = socket.socketpair()\n"
        "mine.sendall(json.dumps([['', '1000', ''], ['', '2000000000', ''], ['', '1', '']])"
        ".encode() + b'\\n')\n"
        "worker.work(theirs, 512, greedy)\n"
        "print(mine.recv(9999).decode())\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    replies = run.stdout.strip().splitlines()
    # The job after the failure is not begun: the worker leaves.
    assert len(replies) == 2
    assert replies[0].startswith('["correct", "1000"')
    assert replies[1].startswith('["error", null')
    assert replies[1].endswith("true]")


def test_a_worker_may_not_write_start_or_connect(tmp_path):
    code = (
        "import os, socket, subprocess, sys\n"
        "from nft_lightning.verifiers.sandbox.worker import confine\n"
        "confine(1024)\n"
        "tries = [lambda: open(sys.argv[1], 'w'), lambda: os.system('true'), lambda: os.fork(),\n"
        "    lambda: subprocess.run(['true']), lambda: socket.socket(),\n"
        "    lambda: os.remove(sys.argv[0]),\n"
        "    lambda: os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY), lambda: os.mkdir(sys.argv[1]),\n"
        "    lambda: os.posix_spawn('/bin/true', ['true'], {}),\n"
        "    lambda: os.execv('/bin/true', ['true'])]\n"
        "for t in tries:\n"
        "    try: t()\n"
        "    except PermissionError: print('refused', flush=True)\n"
        "open('/proc/self/stat').close(); print('may read')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "canary")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.stdout.splitlines() == ["refused"] * 10 + ["may read"], run.stderr
    assert not (tmp_path / "canary").exists()


def test_it_works_from_short_lived_and_many_threads():
    verifier = MathVerifier(timeout_seconds=20)
    found: list[list[str]] = []

    def once() -> None:
        found.append([v.outcome for v in verifier.verify([r"\boxed{x+1}", r"\boxed{y}"], ["1+x", "x"])])

    for _ in range(2):  # the thread that started the workers ends; they must live on
        thread = threading.Thread(target=once)
        thread.start()
        thread.join()
        time.sleep(0.2)
    pids = [w.pid for w in verifier.pool.idle]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: once(), range(24)))
    assert found == [["correct", "wrong"]] * 26
    assert {w.pid for w in verifier.pool.idle} == set(pids)
    verifier.close()
    assert gone(pids)


def test_a_forked_copy_starts_workers_of_its_own():
    pool = WorkerPool(MATH, 1, 20.0)
    pool.run(symbolic(1))
    mine = pool.idle[0].pid
    child = os.fork()
    if child == 0:
        fine = pool.run(symbolic(1))[0].correct and pool.idle[0].pid != mine
        pool.close()
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert alive(mine)
    assert pool.run(symbolic(1))[0].correct
    assert pool.idle[0].pid == mine
    pool.close()


def test_a_copy_forked_while_the_pool_is_busy_does_not_wait_for_it():
    pool = WorkerPool(MATH, 1, 2.0)
    pool.fill()
    thread = threading.Thread(target=lambda: pool.run(hanging(1)))
    thread.start()
    time.sleep(0.3)
    child = os.fork()
    if child == 0:
        os._exit(0 if pool.run(symbolic(1))[0].correct else 1)
    assert os.waitpid(child, 0)[1] == 0
    thread.join()
    pool.close()


def test_inside_a_running_event_loop_as_in_a_notebook():
    async def cell() -> list[str]:
        verifier = MathVerifier(timeout_seconds=20)
        try:
            return [v.outcome for v in verifier.verify([r"\boxed{x+1}"], ["1+x"])]
        finally:
            verifier.close()

    assert asyncio.run(cell()) == ["correct"]


def test_each_rank_has_a_pool_of_its_own():
    """As under DDP: processes side by side that know nothing of each other."""
    code = (
        "from nft_lightning.verifiers.math.verifier import MathVerifier\n"
        "v = MathVerifier(timeout_seconds=20)\n"
        "print([x.outcome for x in v.verify([r'\\boxed{x+1}', r'\\boxed{y}'], ['1+x', 'x'])])\n"
    )
    ranks = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]
    assert [r.communicate(timeout=60)[0].strip() for r in ranks] == ["['correct', 'wrong']"] * 2


def test_it_travels_without_its_processes():
    pool = WorkerPool(MATH, 1, 20.0)
    pool.run(symbolic(1))
    copy = pickle.loads(pickle.dumps(pool))
    assert (copy.width, copy.idle, copy.server) == (1, [], None)
    assert copy.run(symbolic(1))[0].correct
    copy.close()
    pool.close()


def test_closing_ends_everything_and_starting_again_works(pool):
    pool.run(symbolic(2))
    pids = [w.pid for w in pool.idle] + [pool.server.process.pid]
    pool.close()
    pool.close()
    assert gone(pids)
    assert pool.run(symbolic(1))[0].correct


PARENT = """
import sys, threading, time
from nft_lightning.verifiers.sandbox.pool import WorkerPool
pool = WorkerPool('nft_lightning.verifiers.math.score', 2, 600.0)
pool.fill()
print(pool.server.process.pid, *[w.pid for w in pool.idle], flush=True)
if sys.argv[1] == "busy":
    pool.run([("box+answer", "7^{20000000}+%d" % i, "5") for i in range(2)])
elif sys.argv[1] == "exit":
    sys.exit()
elif sys.argv[1] == "raise":
    raise KeyError("the trainer fails")
time.sleep(600)
"""


@pytest.mark.parametrize("state", ["idle", "busy", "exit", "raise"])
def test_no_process_is_left_when_the_parent_goes(state):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, state],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    pids = [int(p) for p in parent.stdout.readline().split()]
    assert len(pids) == 3
    if state in ("idle", "busy"):
        assert all(map(alive, pids))
        time.sleep(1.0 if state == "busy" else 0.1)
        parent.kill()
    parent.wait(60)
    assert gone(pids)


def test_an_exception_while_waiting_leaves_no_stale_answers(pool, monkeypatch):
    def interrupted(self, timeout_seconds, now):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "overdue", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.run(symbolic(40))
    verdicts = pool.run([("box+answer", "x", "y"), ("box+answer", "x+1", "1+x")])
    assert [v.outcome for v in verdicts] == ["wrong", "correct"]


def test_a_starved_worker_gets_more_time_a_lazy_one_does_not(monkeypatch):
    worker = Worker(os.getpid(), None, started=0.0, cpu_before=time.process_time() - 100)
    assert not worker.overdue(1.0, 0.9)
    assert worker.overdue(1.0, 1.1)  # it has had its CPU time
    worker.cpu_before = time.process_time()
    sleeping = subprocess.Popen(["sleep", "60"])
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    time.sleep(0.3)
    try:
        lazy = Worker(sleeping.pid, None, started=0.0)
        assert lazy.overdue(1.0, 1.1)
        starved = Worker(spinning.pid, None, started=0.0, cpu_before=1000.0)
        assert not starved.overdue(1.0, 1.1)
        assert starved.overdue(1.0, STARVED_DEADLINES)
    finally:
        for process in (sleeping, spinning):
            process.kill()
            process.wait()


def test_why_it_can_not_start_is_said(monkeypatch, tmp_path):
    (tmp_path / "math_verify.py").write_text("raise ImportError('this one is broken')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    pool = WorkerPool(MATH, 1, 5.0)
    with pytest.raises(RuntimeError, match="this one is broken"):
        pool.run(symbolic(1))
    pool.close()


def test_golds_are_read_once():
    from nft_lightning.verifiers.math import compare
    from nft_lightning.verifiers.math import score as judge

    judge.read_gold.cache_clear()
    compare.gold_value.cache_clear()
    for answer in ("x", "y", "z"):
        judge.score("box+answer", answer, "x+y")
    assert judge.read_gold.cache_info().misses == compare.gold_value.cache_info().misses == 1
    assert judge.read_gold.cache_info().hits == compare.gold_value.cache_info().hits == 2


@pytest.mark.parametrize("answer", ["9^{9^{9^9}}", "(10^{10})!", r"\left(\frac{3}{2}\right)^{10^{12}}"])
def test_what_nobody_can_write_out_does_not_wait_for_the_deadline(answer):
    pool = WorkerPool(MATH, 1, timeout_seconds=300)
    started = time.perf_counter()
    (verdict,) = pool.run([("box+answer", answer, "5")])
    pool.close()
    assert verdict.outcome == "timeout"
    assert time.perf_counter() - started < 100


def test_large_numbers_that_can_be_written_are_still_judged():
    pool = WorkerPool(MATH, 1, timeout_seconds=60)
    verdicts = pool.run(
        [("box+answer", r"2^{100000}\cdot 2", "2^{100001}"), ("box+answer", "20!", "21!")]
    )
    pool.close()
    assert [v.outcome for v in verdicts] == ["correct", "wrong"]
