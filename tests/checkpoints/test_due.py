"""Which checkpoints are written and kept."""

from __future__ import annotations

import pytest

from nft_lightning.app.run import run
from nft_lightning.checkpoints import callback
from nft_lightning.checkpoints.callback import Checkpoints
from tests.resume.conftest import brief


@pytest.mark.parametrize(
    ("keep_best", "kept", "score", "due"),
    [
        (0, [], 0.9, False),
        (0, [0.1, 0.2], 0.9, False),
        (1, [], 0.1, True),
        (1, [0.5], 0.4, False),
        (1, [0.5, 0.1], 0.4, False),
        (1, [0.5], 0.6, True),
        (2, [0.5], 0.1, True),
        (2, [0.5, 0.3, 0.1], 0.2, False),
        (2, [0.5, 0.3, 0.1], 0.4, True),
        (2, [0.5, None], 0.1, True),
        (1, [0.5], None, False),
    ],
)
def test_weights_among_the_best_are_saved(monkeypatch, tmp_path, keep_best, kept, score, due):
    made = Checkpoints(str(tmp_path), "eval/avg_at_2", every_epochs=10, keep_best=keep_best)
    monkeypatch.setattr(callback, "complete", lambda _: [(tmp_path, {"score": s}) for s in kept])
    monkeypatch.setattr(made, "score", lambda *_: score)
    assert made.due(None, None, 3) is due
    assert made.due(None, None, 10)


@pytest.mark.slow
@pytest.mark.parametrize("keep_best", [0, 1])
def test_a_run_whose_checkpoints_are_not_due_ends_well(tmp_path, keep_best):
    words = ["callbacks.checkpoint.every_epochs=100", "evaluation.every_epochs=1"]
    words += ["callbacks.checkpoint.keep_last=1", f"callbacks.checkpoint.keep_best={keep_best}"]
    summary = run(brief(*words, f"run_dir={tmp_path}", "callbacks.export=null"))
    assert summary["ended_by"] == "max_epochs"
    folders = list((tmp_path / "checkpoints").glob("epoch_*"))
    assert 1 <= len(folders) <= 1 + keep_best
