"""A compilation of DeepSpeed that was killed leaves a lock, and runs after it do not wait for it."""

from __future__ import annotations

import os
import time

from nft_lightning.training.strategies.zero import LOCK_SECONDS, remove_stale_locks


def test_an_old_lock_goes_and_a_new_one_stays(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    locks = [tmp_path / "py311_cpu" / "deepspeed_shm_comm" / "lock", tmp_path / "deepspeed_new" / "lock"]
    for lock in locks:
        lock.parent.mkdir(parents=True)
        lock.touch()
    old = time.time() - LOCK_SECONDS - 1
    os.utime(locks[0], (old, old))
    remove_stale_locks()
    assert not locks[0].exists()
    assert locks[1].exists()
    assert "left by a compilation that was killed" in caplog.text
