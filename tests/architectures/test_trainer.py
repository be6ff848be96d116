"""Every architecture in one process: sampling, padding, fused log-probabilities, export."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from nft_lightning.engines.checkpoint_format import CheckpointFormat
from nft_lightning.engines.hf.engine import HFEngine
from nft_lightning.engines.hf.rows import CachedRows, WholeRows
from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.errors import UserError
from nft_lightning.policy.config import PolicyConfig
from nft_lightning.policy.loading import HFModel
from nft_lightning.training.export import save
from tests.architectures.samples import PROMPT_TOKENS, batch_of, largest_gap, prompts_of, written
from tests.architectures.table import ARCHITECTURES, WINDOW, scatter


@pytest.fixture
def engine(policy):
    made = HFEngine(policy.model, policy.tokenizer)
    made.load_weights(full_tensors(policy.model), 0)
    return made


def test_completions_have_the_trainers_logprobs(policy, engine):
    prompts, groups = written(engine)
    lengths = [len(c.token_ids) for group in groups for c in group]
    assert min(lengths) < max(lengths), "no row left the batch"
    assert max(PROMPT_TOKENS) > WINDOW
    assert largest_gap(policy, prompts, groups) < 5e-5


def test_a_completion_does_not_depend_on_its_batch(policy, engine):
    _, groups = written(engine)
    for i in (0, 3):
        _, (alone,) = written(engine, [i])
        assert [c.token_ids.tolist() for c in alone] == [c.token_ids.tolist() for c in groups[i]]


def test_how_rows_are_continued(architecture, policy, engine):
    owner = torch.tensor([0, 1])
    with torch.no_grad():
        rows = engine.starter.rows(prompts_of()[:2], owner, 0)
    assert type(rows) is (CachedRows if ARCHITECTURES[architecture].cached else WholeRows)


def grown(policy, batch):
    """Log-probabilities, and the gradient of their weighted sum."""
    policy.zero_grad()
    logprobs = policy(batch).logprobs
    wave = torch.sin(torch.arange(batch.mask.numel()).view(batch.mask.shape))
    (logprobs * wave).sum().backward()
    grads = [p.grad.flatten() for p in policy.parameters() if p.grad is not None]
    return logprobs.detach(), torch.cat(grads)


def same(first, second, bound=2e-5):
    assert (first[0] - second[0]).abs().max() < bound
    assert (first[1] - second[1]).norm() < bound * 10 * first[1].norm()


def test_rows_end_to_end_are_as_padded(architecture, policy, engine):
    batch = batch_of(*written(engine))
    plan = PolicyConfig(padding_free=True)
    if not ARCHITECTURES[architecture].padding_free:
        with pytest.raises(UserError, match="lets rows end to end see each other"):
            plan.free_of_padding(policy)
        return
    assert plan.free_of_padding(policy)
    padded = grown(policy, batch)
    policy.padding_free = True
    same(padded, grown(policy, batch))


def test_fused_logprobs_are_the_plain_ones(architecture, policy, engine):
    batch = batch_of(*written(engine))
    if not ARCHITECTURES[architecture].fused:
        with pytest.raises(UserError, match="does not fit"):
            PolicyConfig(logprobs="fused").fused(policy.model, policy.temperature)
        return
    plain = grown(policy, batch)
    policy.fused = PolicyConfig(logprobs="fused").fused(policy.model, policy.temperature)
    assert policy.fused is not None
    same(plain, grown(policy, batch))


def test_the_export_loads_with_equal_logits(policy, tmp_path):
    scatter(policy.model, 1)
    save(policy, tmp_path / "export")
    again = HFModel(str(tmp_path / "export")).load(1.0).model.eval()
    ids = torch.tensor([prompts_of()[1]])
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, policy.model(input_ids=ids).logits)


def test_what_is_sent_is_what_a_checkpoint_holds(policy, tmp_path):
    policy.model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    format = CheckpointFormat(policy.model)
    sent = dict(format.applied(full_tensors(policy.model)))
    assert sent.keys() == saved.keys()
    assert all(torch.equal(sent[name], saved[name]) for name in saved)
    assert {name: shape for name, shape, _ in format.shapes} == {n: t.shape for n, t in saved.items()}
