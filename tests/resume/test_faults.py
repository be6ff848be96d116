"""Faults are survived or end with one sentence; each docstring says what happens and what follows."""

from __future__ import annotations

import csv
import errno
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from benchmarks.equal import differences
from nft_lightning.app import run as running
from nft_lightning.batching.split import split_micro_batches
from nft_lightning.checkpoints import folder as folders
from nft_lightning.checkpoints.folder import DamagedCheckpointError, read_checkpoint, write_checkpoint
from nft_lightning.engines.hf.engine import HFEngine
from nft_lightning.errors import RunStoppedError, UserError
from nft_lightning.records import rollouts as record
from nft_lightning.records.loggers import MetricsTable
from nft_lightning.training.module import PolicyModule
from nft_lightning.types import TokenBatch
from tests.processes import Command, cli
from tests.resume.conftest import brief
from tests.test_house import ROOT

pytestmark = pytest.mark.slow
FULL = OSError(errno.ENOSPC, "No space left on device")


def state(value):
    return {"state_dict": {"w": torch.full((1000,), value)}, "rest": [torch.zeros(100_000), "text"]}


def test_disk_full_in_checkpoint(tmp_path):
    """Disk full while a checkpoint is written: nothing half-written stays, the one before is whole."""
    write_checkpoint(tmp_path / "epoch_00001", state(1.0), {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="epoch_00002 could not be written"):
            write_checkpoint(tmp_path / "epoch_00002", state(2.0), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["epoch_00001"]
    assert read_checkpoint(tmp_path / "epoch_00001")["state_dict"]["w"][0] == 1


def no_room(*given, **named):
    raise FULL


@pytest.mark.parametrize("rule", ["continue", "stop"])
def test_disk_full_during_a_run(plain, tmp_path, monkeypatch, caplog, rule):
    """Disk full for all checkpoints of a run: it continues with the same results, or stops, by rule."""
    monkeypatch.setattr(folders, "save_file", no_room)
    cfg = brief(f"run_dir={tmp_path / 'run'}", f"on_write_error={rule}")
    if rule == "stop":
        with pytest.raises(RunStoppedError, match="No space left on device"):
            running.run(cfg)
        return
    summary = running.run(cfg)
    assert "No space left on device" in caplog.text
    assert summary["after"] == json.loads((plain / "summary.json").read_text())["after"]
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("rule", ["continue", "stop"])
def test_disk_full_in_parquet(tmp_path, monkeypatch, caplog, rule):
    """Disk full while a rollout is recorded: the run continues without the file, or stops, by rule."""
    monkeypatch.setattr(record.pq, "write_table", no_room)
    cfg = brief(f"run_dir={tmp_path / 'run'}", "trainer.max_epochs=1", f"on_write_error={rule}")
    if rule == "stop":
        with pytest.raises(RunStoppedError, match=r"\.parquet could not be written"):
            running.run(cfg)
        return
    assert running.run(cfg)["epochs"] == 1
    assert "epoch_0000.parquet could not be written" in caplog.text


def test_disk_full_in_metrics(tmp_path, monkeypatch, caplog):
    """Disk full while metrics are written: the rows wait and are written once there is room, or stop."""
    logger = MetricsTable(str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", no_room)
        logger.log_metrics({"a": 1.0, "epoch": 0}, 0)
        logger.save()
        stopping = MetricsTable(str(tmp_path), "stop")
        stopping.log_metrics({"a": 1.0, "epoch": 0}, 0)
        with pytest.raises(RunStoppedError, match=r"metrics.csv could not be written"):
            stopping.save()
    assert "No space left" in caplog.text
    logger.log_metrics({"a": 2.0, "b": 3.0, "epoch": 1}, 1)
    logger.save()
    assert [r["a"] for r in logger.metrics.read()] == ["1.0", "2.0"]


def test_a_read_only_run_folder(tmp_path):
    """A run folder that cannot be written is refused in one sentence before a model is loaded."""
    result = cli("run_dir=/proc/nothing/here", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: run_dir=")


def truncated(path):
    data = (path / "state.pt").read_bytes()
    (path / "state.pt").write_bytes(data[: len(data) // 2])


def flipped(path):
    data = bytearray((path / "model.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (path / "model.safetensors").write_bytes(data)


def unmarked(path):
    (path / "manifest.json").unlink()


@pytest.mark.parametrize("damage", [truncated, flipped, unmarked])
def test_a_damaged_checkpoint(plain, leaving, tmp_path, caplog, damage):
    """The newest checkpoint is truncated, altered or incomplete: the one before is used, and said so."""
    cfg = brief(f"run_dir={tmp_path / 'run'}", "resume=auto")
    leaving(cfg, "epoch 2 after 0")
    newest = tmp_path / "run" / "checkpoints" / "epoch_00002_update_0001"
    damage(newest)
    running.run(cfg)
    assert "damaged-epoch_00002_update_0001, and the one before is used" in caplog.text
    assert differences(plain, tmp_path / "run") == []


class Evil:
    def __reduce__(self):
        return (os.system, ("touch pwned",))


def test_a_malicious_pickle(tmp_path, monkeypatch):
    """A checkpoint that holds a malicious pickle, checksum and all: refused, nothing of it is run."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "epoch_00001"
    write_checkpoint(path, state(1.0), {})
    for save in (lambda: torch.save({"rest": Evil()}, path / "state.pt"), lambda: raw(path)):
        save()
        manifest = json.loads((path / "manifest.json").read_text())
        manifest["files"]["state.pt"] = [*folders.measure(path / "state.pt")]
        (path / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(DamagedCheckpointError, match="cannot be read"):
            read_checkpoint(path)
    assert not (tmp_path / "pwned").exists()


def raw(path):
    (path / "state.pt").write_bytes(pickle.dumps(Evil()))


def broken_loss(monkeypatch, updates):
    """Make the loss of some updates, counted from 0, not finite."""
    original, count = PolicyModule.training_step, iter(range(1000))

    def step(self, batch, index):
        self.breaks = next(count) in updates
        return original(self, batch, index)

    plain_loss = PolicyModule.token_loss

    def token_loss(self, objective, micro):
        out, tokens = plain_loss(self, objective, micro)
        if self.breaks:
            tokens.loss.data[0] = float("nan")
        return out, tokens

    monkeypatch.setattr(PolicyModule, "training_step", step)
    monkeypatch.setattr(PolicyModule, "token_loss", token_loss)


def test_a_loss_that_is_not_finite(tmp_path, monkeypatch):
    """A loss that is not finite: it is left out and counted, its rows are saved, the run continues."""
    broken_loss(monkeypatch, {1})
    summary = running.run(brief(f"run_dir={tmp_path}", "trainer.max_epochs=2"))
    assert summary["updates"] == 5
    (path,) = (tmp_path / "skipped").iterdir()
    assert path.name == "epoch_0000_update_0001.parquet"
    rows = pq.read_table(path).to_pylist()
    broken = [r["loss"] == r["loss"] for r in rows].count(False)
    assert 1 <= broken < len(rows) / 2  # one row a micro-batch
    assert all(r["finite_logprobs"] and r["text"] for r in rows)


def test_many_losses_that_are_not_finite(tmp_path, monkeypatch):
    """Losses that are not finite again and again: the run stops in one sentence after n in a row."""
    broken_loss(monkeypatch, {1, 3, 4, 5})
    cfg = brief(f"run_dir={tmp_path}", "optimizer.stop_after_skipped_updates=3")
    with pytest.raises(RunStoppedError, match="3 updates in a row was not finite"):
        running.run(cfg)
    assert len(list((tmp_path / "skipped").iterdir())) == 4


@pytest.mark.parametrize("algorithm", ["nft", "dpo"])
def test_out_of_memory(tmp_path, monkeypatch, algorithm):
    """Out of memory in a micro-batch: it is split and the step made again, with the same gradient."""
    options = (f"algorithm={algorithm}", "trainer.max_epochs=1")
    running.run(brief(f"run_dir={tmp_path / 'a'}", *options))
    token_loss, failures = PolicyModule.token_loss, []

    def small(self, objective, micro):
        if len(micro.mask) > 6:
            failures.append(len(micro.mask))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return token_loss(self, objective, micro)

    monkeypatch.setattr(PolicyModule, "token_loss", small)
    running.run(brief(f"run_dir={tmp_path / 'b'}", *options))
    assert failures
    a, b = (read_checkpoint(tmp_path / n / "checkpoints" / "last")["state_dict"] for n in "ab")
    assert all(torch.allclose(a[k].double(), b[k].double(), atol=1e-5) for k in a)
    rows = (tmp_path / "b" / "metrics.csv").read_text()
    assert "optimizer/memory_splits" in rows
    assert trained_tokens(tmp_path / "a") == pytest.approx(trained_tokens(tmp_path / "b"))


def trained_tokens(run):
    """Those of the first epoch, from its time and rate."""
    with open(run / "metrics.csv") as file:
        row = next(row for row in csv.DictReader(file) if row["time/train_seconds"])
    return float(row["time/train_seconds"]) * float(row["time/train_tokens_per_second"])


def test_out_of_memory_for_good(tmp_path, monkeypatch):
    """Out of memory even with one row: the run stops in one sentence that names the setting."""

    def never(self, objective, micro):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(PolicyModule, "token_loss", never)
    with pytest.raises(RunStoppedError, match=r"batching\.max_tokens_per_micro_batch"):
        running.run(brief(f"run_dir={tmp_path}"))


def test_halves_keep_groups_and_rows():
    """Halving a micro-batch for memory: every row once, groups whole (what a split rests on)."""
    ids = torch.arange(12).reshape(6, 2)
    one = torch.ones(6, 1)
    group = torch.tensor([4, 4, 4, 4, 7, 7])
    micro = TokenBatch(ids, ids, one.bool(), one, one, {"group": group}, old_logprobs=one)
    first, second = split_micro_batches([micro])
    assert first.signal["group"].tolist() == [4] * 4
    assert second.signal["group"].tolist() == [7] * 2
    assert torch.equal(torch.cat([first.input_ids, second.input_ids]), ids)
    assert len(split_micro_batches([first])) == 1
    rows = split_micro_batches([TokenBatch(ids, ids, one.bool(), one, one, {"reward": one[:, 0]})])
    assert [len(r.mask) for r in rows] == [3, 3]
    assert rows[0].old_logprobs is None


def test_the_engine_fails(plain, tmp_path, monkeypatch):
    """The engine fails in a rollout: one sentence; the resumed run ends as the undisturbed one."""
    generate, count = HFEngine.generate, iter(range(1000))

    def failing(self, prompts, sampling, seeds):
        if next(count) == 6:
            raise RuntimeError("engine died")
        return generate(self, prompts, sampling, seeds)

    cfg = brief(f"run_dir={tmp_path / 'run'}", "resume=auto")
    with monkeypatch.context() as patch:
        patch.setattr(HFEngine, "generate", failing)
        with pytest.raises(RunStoppedError, match="RuntimeError: engine died"):
            running.run(cfg)
    running.run(cfg)
    assert differences(plain, tmp_path / "run") == []


HOLDER = """
import sys, time
from nft_lightning.checkpoints.lock import RunLock
lock = RunLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


def test_a_second_process(tmp_path):
    """A second process on one run folder: refused in one sentence; a killed holder blocks nobody."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=f"in use by process {holder.pid} on"):
            running.run(brief(f"run_dir={tmp_path}"))
    finally:
        holder.kill()
        holder.wait()
    running.RunLock(str(tmp_path)).acquire()


def test_clock_jumps():
    """The clock jumps: nothing that a run decides asks for the time of day."""
    for path in (ROOT / "nft_lightning").rglob("*.py"):
        text = path.read_text()
        assert "time.time(" not in text, path
        assert "datetime.now(" not in text, path


def test_the_verifier_dies(plain, tmp_path, monkeypatch):
    """The verifier's processes are killed during a run: they are replaced, the results are the same."""
    generate = HFEngine.generate

    def killing(self, prompts, sampling, seeds):
        made = generate(self, prompts, sampling, seeds)
        for line in subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True
        ).stdout.splitlines():
            if "forkserver" in line:
                os.kill(int(line.split()[0]), signal.SIGKILL)
        return made

    monkeypatch.setattr(HFEngine, "generate", killing)
    running.run(brief(f"run_dir={tmp_path / 'run'}"))
    assert differences(plain, tmp_path / "run") == []


DIES = """
import os, signal, sys
from nft_lightning.checkpoints import folder
from nft_lightning.cli.train import main
place, name = sys.argv.pop(1), sys.argv.pop(1)
def dying(original):
    def wrapped(path, *given):
        if "epoch_00002" in str(path):
            if place == "half":
                open(str(path), "wb").write(b"half of it")
            os.kill(os.getpid(), signal.SIGKILL)
        return original(path, *given)
    return wrapped
if name == "save":
    save = folder.save_file
    folder.save_file = lambda tensors, path: dying(lambda p: save(tensors, p))(path)
elif name == "rename":
    folder.Path.rename = dying(folder.Path.rename)
else:
    setattr(folder, name, dying(getattr(folder, name)))
main()
"""


@pytest.mark.parametrize(("place", "name"), [("half", "save"), ("whole", "flush"), ("whole", "rename")])
def test_killed_while_a_checkpoint_is_written(plain, tmp_path, place, name):
    """SIGKILL while a checkpoint is written, flushed, renamed: the one before is used, same results."""
    from tests.resume.conftest import SETTINGS

    run = tmp_path / "run"
    command = [sys.executable, "-c", DIES, place, name, *SETTINGS, f"run_dir={run}"]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    kept = {p.name for p in (run / "checkpoints").iterdir()}
    assert "epoch_00001" in kept
    assert "epoch_00002" not in kept
    assert ".partial-epoch_00002" in kept
    result = cli(f"resume={run}")
    assert result.returncode == 0, result.stderr
    assert differences(plain, run) == []


def test_asked_to_leave_from_outside(plain, tmp_path):
    """SIGUSR1 from outside: a checkpoint, exit code 75, and resume=FOLDER ends as if undisturbed."""
    from tests.resume.conftest import SETTINGS

    run = tmp_path / "run"
    for signum, code in ((signal.SIGUSR1, 75), (signal.SIGINT, 130)):
        first = ([*SETTINGS, f"run_dir={run}"], run / "rollouts")
        again = ([f"resume={run}"], run / "checkpoints" / "epoch_00002")
        arguments, sign = first if signum == signal.SIGUSR1 else again
        process = Command(*arguments)
        deadline = time.monotonic() + 90
        while not sign.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signum)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == code, said
        assert f"left on {signum.name}" in said
        assert "Traceback" not in said
    result = cli(f"resume={run}")
    assert result.returncode == 0, result.stderr
    assert differences(plain, run) == []
    shutil.rmtree(run)
