"""A number of each token from ``prepare`` reaches its token, however the rollout is laid out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from nft_lightning.batching.aligned import aligned
from nft_lightning.batching.layout import layout
from nft_lightning.batching.split import split_micro_batches
from nft_lightning.objectives.base import Objective, Outcomes
from nft_lightning.rollouts.serialized import pack_batch, unpack_batch
from nft_lightning.types import Rollout, Signal, TokenLoss
from tests.batching.test_layout_invariance import MODEL, POLICY, TRAINED, gradient, make_rollout


@dataclass(frozen=True, kw_only=True)
class Discounted(Objective):
    """Each token's log-probability, times the reward, times one half for each token behind it."""

    def prepare(self, outcomes: Outcomes) -> Signal:
        weights = [
            reward * 0.5 ** torch.arange(int(length) - 1, -1, -1).double()
            for reward, length in zip(outcomes.rewards, outcomes.lengths, strict=True)
        ]
        keep = torch.ones(len(outcomes.rewards), dtype=torch.bool)
        return Signal({"reward": outcomes.rewards}, keep, token_values={"discounted": weights})

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        return TokenLoss(-signal["discounted"].to(logprobs) * logprobs)


def with_foreign_tokens(rollout: Rollout) -> Rollout:
    """The same, where every third token of an answer is not the policy's own."""
    groups = []
    for group in rollout.groups:
        completions = tuple(
            replace(c, mask=tuple(i % 3 != 1 for i in range(len(c.token_ids))))
            for c in group.completions
        )
        groups.append(replace(group, completions=completions))
    return replace(rollout, groups=tuple(groups))


def by_hand(rollout: Rollout) -> Tensor:
    """The gradient of the token mean, completion by completion."""
    MODEL.zero_grad()
    rows = [
        (group.prompt_ids, completion, reward)
        for group in rollout.groups
        for completion, reward in zip(group.completions, group.rewards, strict=True)
    ]
    tokens = sum(completion.written for _, completion, _ in rows)
    for prompt, completion, reward in rows:
        ids = torch.tensor([[*prompt, *completion.token_ids]])
        logprobs = MODEL(input_ids=ids).logits[0].log_softmax(-1)
        own = [
            i for i in range(len(completion.token_ids)) if completion.mask is None or completion.mask[i]
        ]
        for number, i in enumerate(own):
            place = len(prompt) + i
            weight = reward * 0.5 ** (len(own) - 1 - number)
            (-weight * logprobs[place - 1, ids[0, place]] / tokens).backward(retain_graph=True)
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in TRAINED])


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize(
    ("size", "world", "unit"),
    [(10**6, 1, "group"), (1, 1, "group"), (70, 2, "group"), (40, 3, "completion")],
)
def test_the_gradient_is_the_one_by_hand(size, world, unit, foreign):
    rollout = make_rollout(5, 3)
    if foreign:
        rollout = with_foreign_tokens(rollout)
    expected = by_hand(rollout).clone()
    found = gradient(rollout, Discounted(), size, world, minibatch_unit=unit)
    assert expected.norm() > 1e-3
    assert (found - expected).norm() <= 1e-5 * expected.norm()


def test_rows_end_to_end_give_the_same(monkeypatch):
    rollout = make_rollout(5, 3)
    expected = gradient(rollout, Discounted(), 70)
    monkeypatch.setattr(POLICY, "padding_free", True)
    found = gradient(rollout, Discounted(), 10**6)
    assert (found - expected).norm() <= 1e-5 * expected.norm()


def laid_out(rollout: Rollout, signal: Signal, size: int, world: int = 1):
    return [
        layout(
            rollout,
            signal,
            updates=1,
            max_tokens_per_micro_batch=size,
            reduction="token_mean",
            max_new_tokens=16,
            seed=0,
            rank=rank,
            world_size=world,
        )[0]
        for rank in range(world)
    ]


def outcomes(rollout: Rollout) -> Outcomes:
    return Outcomes(rollout.rewards, rollout.group_ids, rollout.lengths, 16)


def test_cutting_and_saving_keep_them_at_their_tokens():
    rollout = make_rollout(5, 2)
    signal = Discounted().signal(outcomes(rollout))
    (batch,) = laid_out(rollout, signal, 10**6)
    (micro,) = batch.micro_batches
    assert micro.signal["discounted"].shape == micro.mask.shape
    assert not micro.signal["discounted"][~micro.mask].any()
    last = [row[places][-1] for row, places in zip(micro.signal["discounted"], micro.mask, strict=True)]
    assert last == micro.signal["reward"].tolist()
    halves = split_micro_batches([micro])
    assert torch.equal(torch.cat([h.signal["discounted"] for h in halves]), micro.signal["discounted"])
    (again,) = unpack_batch(pack_batch(batch)).micro_batches
    assert torch.equal(again.signal["discounted"], micro.signal["discounted"])


def test_a_rank_without_rows_has_them_too():
    rollout = make_rollout(5, 1, k=2)
    signal = Discounted().signal(outcomes(rollout))
    ranks = laid_out(rollout, signal, 10**6, world=3)
    (empty,) = ranks[2].micro_batches
    assert not empty.mask.any()
    assert empty.signal["discounted"].shape == (1, 1)


def test_plain_tensors_give_what_a_rollout_gives():
    rollout = make_rollout(5, 2)
    (batch,) = laid_out(rollout, Discounted().signal(outcomes(rollout)), 10**6)
    (micro,) = batch.micro_batches
    logprobs = torch.randn(micro.mask.shape, requires_grad=True)
    rewards, groups = micro.signal["reward"], torch.arange(len(micro.mask))
    found = Discounted()(logprobs, logprobs.detach(), micro.mask, rewards, groups).loss
    expected = (
        Discounted().loss(logprobs, None, micro.mask, micro.inputs()).loss * micro.token_weight
    ).sum()
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("numbers", [torch.ones(1), torch.ones(3), torch.ones(2, 1)])
def test_other_than_a_number_for_each_token_is_an_error(numbers):
    mask = torch.tensor([[False, True, True, False]])
    assert aligned([torch.tensor([3.0, 4.0])], mask).tolist() == [[0.0, 3.0, 4.0, 0.0]]
    with pytest.raises(ValueError, match="numbers for 2 tokens"):
        aligned([numbers], mask)
