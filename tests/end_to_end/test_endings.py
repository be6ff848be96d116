"""However a run ends, its last numbers are those of its last weights, and a resume continues it."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from benchmarks.equal import differences
from nft_lightning.app.parts import build_parts
from nft_lightning.app.run import run
from nft_lightning.checkpoints.folder import checkpoints, read_checkpoint, read_manifest
from nft_lightning.errors import UserError
from tests.resume.conftest import brief

pytestmark = pytest.mark.slow

STOP = (
    "+callbacks.stop={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: eval/avg_at_2, "
    "mode: max, patience: 1, min_delta: 1.0}"
)
AVERAGE = "+callbacks.ema={_target_: lightning.pytorch.callbacks.EMAWeightAveraging, decay: 0.5}"


def rows(folder, name):
    text = (folder / "metrics.csv").read_text().splitlines()
    column = text[0].split(",").index(name)
    return [line.split(",")[column] for line in text[1:] if line.split(",")[column]]


def test_max_steps_ends_within_an_epoch_and_more_continue_it(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(brief(f"run_dir={whole}"))
    summary = run(brief(f"run_dir={cut}", "++trainer.max_steps=8"))
    assert (summary["epochs"], summary["updates"], summary["ended_by"]) == (2, 8, "max_steps")
    assert checkpoints(cut / "checkpoints")[-1].name == "epoch_00002_update_0002"
    # The last evaluation is of the last weights: the run asks once more, with the same seeds.
    scored = {read_manifest(p)["score"] for p in checkpoints(cut / "checkpoints")}
    assert rows(cut, "eval/avg_at_2")[-1] == pytest.approx(str(summary["after"]["eval/avg_at_2"]), abs=0)
    assert len(rows(cut, "eval/avg_at_2")) == 3
    assert None in scored
    again = run(brief(f"run_dir={cut}", "++trainer.max_steps=8", "resume=auto"))
    assert again["updates"] == 8
    run(brief(f"run_dir={cut}", "resume=auto"))
    assert [d for d in differences(whole, cut) if "evaluation" not in d] == []


def test_what_moves_the_evaluation_is_refused():
    for key, value in (("val_check_interval", 3), ("overfit_batches", 1)):
        cfg = brief(f"++trainer.{key}={value}", "run_dir=x")
        with pytest.raises(UserError, match=rf"trainer\.{key}=.* has no effect"):
            build_parts(cfg)


def test_a_run_that_early_stopping_ended_is_left_alone(tmp_path):
    every = ("evaluation.every_epochs=1", "trainer.max_epochs=6", f"run_dir={tmp_path}")
    summary = run(brief(*every, STOP))
    assert summary["ended_by"] == "callbacks"
    assert summary["epochs"] < 6
    before = (tmp_path / "summary.json").read_bytes()
    again = run(brief(*every, STOP, "resume=auto"))
    assert again["updates"] == summary["updates"]
    assert (tmp_path / "summary.json").read_bytes() == before
    longer = run(brief(*every, "resume=auto"))
    assert (longer["epochs"], longer["ended_by"]) == (6, "max_epochs")


def test_averaged_weights_count_no_updates(tmp_path):
    summary = run(brief(f"run_dir={tmp_path}", AVERAGE, "callbacks.export=null"))
    assert summary["updates"] == 12
    assert read_checkpoint(tmp_path / "checkpoints" / "last")["updates_done"] == 12
    averaged = read_checkpoint(tmp_path / "checkpoints" / "last")["state_dict"]
    run(brief(f"run_dir={tmp_path / 'plain'}"))
    plain = read_checkpoint(tmp_path / "plain" / "checkpoints" / "last")["state_dict"]
    assert any(not torch.equal(v, plain[k]) for k, v in averaged.items())
    assert OmegaConf.load(tmp_path / "config.yaml").callbacks.ema.decay == 0.5
