"""QLoRA and 8-bit moments with the real library, which runs on CPUs too."""

from __future__ import annotations

import json

import pytest
import torch

from nft_lightning.assets import tiny_policy_path
from nft_lightning.checkpoints.folder import read_checkpoint
from nft_lightning.engines.checkpoint_format import CheckpointFormat
from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.evaluation.trained import trained_model
from tests.end_to_end.rank_runs import run_here, runs

pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.slow
MODEL = ["model=hf", f"model.path={tiny_policy_path('tiny')}"]
EXPORT = "callbacks.export={_target_:nft_lightning.callbacks.export.HuggingFaceExport}"
CASES = {
    "qlora": ["policy.quantize=4bit", "policy.lora_rank=8", "optimizer.learning_rate=5e-3"],
    "adamw_8bit": ["optimizer.name=adamw_8bit"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("bitsandbytes")
    for name, words in CASES.items():
        words = [*MODEL, *words, EXPORT]
        run_here(made, f"{name}/whole", [*words, "trainer.max_epochs=2"])
        run_here(made, f"{name}/cut", words)
        run_here(made, f"{name}/cut", [*words, "trainer.max_epochs=2", "resume=auto"])
    return made


def last(folder):
    return read_checkpoint(folder / "checkpoints" / "last")


def tensors(state):
    """All tensors of a nested state, in order."""
    if isinstance(state, torch.Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list) else []
    return [tensor for value in values for tensor in tensors(value)]


@pytest.mark.parametrize("name", CASES)
def test_a_run_goes_on_exactly(folder, name):
    whole, cut = last(folder / name / "whole"), last(folder / name / "cut")
    assert cut["updates_done"] == 6
    assert whole["state_dict"].keys() == cut["state_dict"].keys()
    assert all(torch.equal(v, cut["state_dict"][k]) for k, v in whole["state_dict"].items())
    moments = [tensors(c["optimizer_states"]) for c in (whole, cut)]
    assert len(moments[0]) > 16
    assert all(torch.equal(a, b) for a, b in zip(*moments, strict=True))


def test_moments_are_kept_in_8_bit(folder):
    found = tensors(last(folder / "adamw_8bit" / "whole")["optimizer_states"])
    assert sum(t.numel() for t in found if t.dtype == torch.uint8) > 1_000_000


def test_adapters_alone_are_saved_over_weights_of_4_bits(folder):
    names = last(folder / "qlora" / "whole")["state_dict"].keys()
    assert names
    assert all("lora_" in name for name in names)
    policy = trained_model(folder / "qlora" / "whole", "last").load(1.0)
    packed = [p for p in policy.parameters() if p.dtype == torch.uint8]
    assert len(packed) > 8


def test_the_export_is_what_4_bits_stand_for_with_the_adapters(folder):
    policy = trained_model(folder / "qlora" / "whole", "last").load(1.0)
    exported = trained_model(folder / "qlora" / "whole", None).load(1.0)
    merged, own = dict(full_tensors(policy.model)), dict(full_tensors(exported.model))
    assert merged.keys() == own.keys()
    assert all(torch.equal(own[name], tensor.to(own[name].dtype)) for name, tensor in merged.items())
    ids = torch.arange(1, 20)[None]
    gap = (exported.model(ids).logits - policy.model(ids).logits).abs().max()
    before = trained_model(folder / "qlora" / "cut", "last").base.load(1.0).model(ids).logits
    assert gap < 0.3 < (policy.model(ids).logits - before).abs().max()


def test_what_is_announced_is_what_is_sent(folder):
    policy = trained_model(folder / "qlora" / "whole", "last").load(1.0)
    sent = {n: (t.shape, t.dtype) for n, t in full_tensors(policy.model)}
    announced = {name: (shape, dtype) for name, shape, dtype in CheckpointFormat(policy.model).shapes}
    assert announced == sent


def test_two_ranks_train_the_adapters_of_one(tmp_path):
    words = [*MODEL, *CASES["qlora"], "optimizer.learning_rate=1e-3"]
    run_here(tmp_path, "one", words)
    note = f"+callbacks.note={{_target_:tests.end_to_end.notes.Note,folder:{tmp_path}}}"
    runs(tmp_path, {"two": [*words, note, "trainer=ddp", "trainer.devices=2"]}, 2)
    sums = [json.loads((tmp_path / f"rank_{rank}.json").read_text())["checksum"] for rank in (0, 1)]
    assert sums[0] == sums[1]
    one, two = (last(tmp_path / name)["state_dict"] for name in ("one", "two"))
    assert one.keys() == two.keys()
    # B begins at 0; products are bf16, so that AdamW moves what has little gradient by another sign.
    b = [name for name in one if "lora_B" in name]
    path = torch.cat([one[name].flatten() for name in b])
    apart = torch.cat([(one[name] - two[name]).flatten() for name in b])
    assert apart.norm() < 0.01 * path.norm()
