"""The gradient must not depend on micro-batches, padding, ranks or an uneven last batch."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from nft_lightning.batching.layout import layout, split
from nft_lightning.batching.reduction import REDUCTIONS
from nft_lightning.objectives import NFT
from nft_lightning.objectives.base import Outcomes
from nft_lightning.policy.critic import ValueHead
from nft_lightning.policy.policy import Policy
from nft_lightning.types import Completion, Group, Problem, Rollout, Verdict
from tests.objectives.family import FAMILY
from tests.tiny_shape import tiny_shape

torch.manual_seed(0)
MODEL = LlamaForCausalLM(LlamaConfig(**tiny_shape(23)))
POLICY, CRITIC = Policy(MODEL, None), ValueHead(32)
torch.nn.init.normal_(CRITIC.outer.weight, generator=torch.Generator().manual_seed(1))
TRAINED = [*MODEL.parameters(), *CRITIC.parameters()]


def make_rollout(seed: int, groups: int, k: int = 4) -> Rollout:
    rng = random.Random(seed)
    made = []
    for g in range(groups):
        prompt = tuple(rng.randrange(3, 23) for _ in range(rng.randint(2, 9)))
        completions = tuple(
            Completion(tuple(rng.randrange(3, 23) for _ in range(n)), "", (-1.0,) * n, False, 0)
            for n in (rng.randint(1, 14) for _ in range(k))
        )
        rewards = tuple(1.0 if i <= g % (k - 1) else 0.0 for i in range(k))
        verdicts = tuple(Verdict("correct" if r else "wrong") for r in rewards)
        made.append(Group(Problem(str(g), "", ""), prompt, completions, verdicts, rewards))
    return Rollout(tuple(made), 0)


def gradient(
    rollout: Rollout,
    objective,
    size: int,
    world: int = 1,
    updates: int = 1,
    rest: bool = True,
    minibatch_unit: str = "group",
) -> torch.Tensor:
    signal = objective.signal(Outcomes(rollout.rewards, rollout.group_ids, rollout.lengths, 16))
    if not rest:
        signal = replace(signal, zero_gradient=None)
    needs = objective.needed_inputs
    MODEL.zero_grad()
    CRITIC.zero_grad()
    for rank in range(world):
        for batch in layout(
            rollout,
            signal,
            updates=updates,
            max_tokens_per_micro_batch=size,
            reduction=objective.reduction,
            max_new_tokens=16,
            seed=5,
            rank=rank,
            world_size=world,
            whole_groups=needs.whole_groups,
            minibatch_unit=minibatch_unit,
        ):
            for micro in batch.micro_batches:
                out = POLICY(micro, entropy_gradient=needs.entropy, hidden=needs.values)
                wave = torch.sin(micro.input_ids[:, 1:].float())
                old, inputs = out.logprobs.detach() - 0.3 * wave, micro.inputs()
                if needs.values:
                    inputs["values"] = CRITIC(out.hidden)
                    inputs["old_values"] = inputs["values"].detach() - 0.1 * wave
                if needs.entropy:
                    inputs["entropy"] = out.entropy
                if needs.reference_logprobs:
                    inputs["reference_logprobs"] = old - 0.2 * wave
                loss = objective.loss(out.logprobs, old, micro.mask, inputs).loss
                (loss * micro.token_weight).sum().backward()
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in TRAINED]
    return torch.cat([g.flatten() for g in grads]).clone()


OPTIONS = {"kl_coefficient": 0.1, "entropy_coefficient": 0.1}
CASES = {
    **FAMILY,
    "nft_options": replace(FAMILY["nft"], **OPTIONS, importance_correction="truncate"),
    "dpo_options": replace(FAMILY["dpo"], **OPTIONS, sft_coefficient=0.2),
    "ppo_options": replace(FAMILY["ppo"], **OPTIONS, gae_lambda=0.9, dual_clip=3.0),
}


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 99),
    groups=st.integers(1, 6),
    size=st.integers(1, 400),
    world=st.integers(1, 3),
    reduction=st.sampled_from(REDUCTIONS),
)
@pytest.mark.parametrize("name", CASES)
def test_gradient_is_invariant(name, seed, groups, size, world, reduction):
    rollout, objective = make_rollout(seed, groups), replace(CASES[name], reduction=reduction)
    whole, cut = gradient(rollout, objective, 10**6), gradient(rollout, objective, size, world)
    assert (whole - cut).norm() <= 1e-6 * max(1e-3, whole.norm())


def test_a_group_that_is_cut_would_change_the_gradient():
    rollout, objective = make_rollout(3, 3), FAMILY["infonca"]
    whole, alone = gradient(rollout, objective, 10**6), gradient(rollout, FAMILY["nft"], 10**6)
    assert whole.norm() > 1e-3
    assert (whole - alone).norm() > 1e-3 * whole.norm()
    signal = objective.signal(Outcomes(rollout.rewards, rollout.group_ids, rollout.lengths, 16))
    kwargs = {"updates": 1, "reduction": "token_mean", "max_new_tokens": 16, "seed": 0}
    for size, expected in ((1, [4, 4, 4]), (80, [4, 4, 4]), (10**6, [12])):
        (batch,) = layout(rollout, signal, max_tokens_per_micro_batch=size, whole_groups=True, **kwargs)
        assert [len(m.input_ids) for m in batch.micro_batches] == expected
        for micro in batch.micro_batches:
            found = micro.signal["group"].unique(return_counts=True)[1]
            assert (found == 4).all()


def with_uniform_groups(rollout: Rollout) -> Rollout:
    groups = list(rollout.groups)
    for i, reward in ((1, 1.0), (3, 0.0)):
        verdicts = (Verdict("correct" if reward else "wrong"),) * 4
        groups[i] = replace(groups[i], verdicts=verdicts, rewards=(reward,) * 4)
    return replace(rollout, groups=tuple(groups))


def laid_out_rows(rollout: Rollout, objective) -> list[int]:
    signal = objective.signal(Outcomes(rollout.rewards, rollout.group_ids, rollout.lengths, 16))
    batches = layout(
        rollout,
        signal,
        updates=2,
        max_tokens_per_micro_batch=60,
        reduction=objective.reduction,
        max_new_tokens=16,
        seed=5,
    )
    return [sum(int(m.mask.any(1).sum()) for m in batch.micro_batches) for batch in batches]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", [n for n, o in FAMILY.items() if o.advantage_key])
def test_groups_without_a_gradient_are_left_out_and_change_none(name, reduction):
    rollout = with_uniform_groups(make_rollout(4, 5))
    objective = replace(FAMILY[name], reduction=reduction, drop_uniform_groups=False)
    short, full = (gradient(rollout, objective, 10**6, rest=rest) for rest in (True, False))
    assert full.norm() > 0
    assert (short - full).norm() <= 1e-6 * full.norm()


def test_which_groups_are_computed():
    rollout = with_uniform_groups(make_rollout(4, 5))
    grpo = replace(FAMILY["grpo"], drop_uniform_groups=False)
    assert sum(laid_out_rows(rollout, grpo)) == 12
    for option in ("kl_coefficient", "entropy_coefficient"):
        assert sum(laid_out_rows(rollout, replace(grpo, **{option: 0.1}))) == 20
    assert sum(laid_out_rows(rollout, FAMILY["reinforce"])) == 16  # only what is all wrong is at rest
    assert sum(laid_out_rows(rollout, FAMILY["ppo"])) == 20  # its critic learns from every completion


def test_an_update_without_any_gradient_still_has_its_step():
    rollout = with_uniform_groups(make_rollout(4, 5))
    rollout = replace(rollout, groups=(rollout.groups[1], rollout.groups[3]))
    signal = replace(FAMILY["grpo"], drop_uniform_groups=False).signal(
        Outcomes(rollout.rewards, rollout.group_ids, rollout.lengths, 16)
    )
    kwargs = {"max_tokens_per_micro_batch": 60, "max_new_tokens": 16, "seed": 0}
    for rank in range(2):
        batches = layout(
            rollout, signal, updates=2, reduction="token_mean", rank=rank, world_size=2, **kwargs
        )
        assert [len(b.micro_batches) for b in batches] == [1, 1]
        assert not any(m.mask.any() for b in batches for m in b.micro_batches)


def groups_of_updates(minibatch_unit: str, updates: int = 3) -> list[list[int]]:
    rollout, objective = make_rollout(2, 6), FAMILY["nft"]
    signal = objective.signal(Outcomes(rollout.rewards, rollout.group_ids, rollout.lengths, 16))
    batches = layout(
        rollout,
        signal,
        updates=updates,
        max_tokens_per_micro_batch=60,
        reduction="token_mean",
        max_new_tokens=16,
        seed=5,
        minibatch_unit=minibatch_unit,
    )
    prompts = {group.prompt_ids: i for i, group in enumerate(rollout.groups)}
    found = []
    for batch in batches:
        rows = []
        for micro in batch.micro_batches:
            for ids, mask in zip(micro.input_ids, micro.mask, strict=True):
                start = int(mask.int().argmax()) + 1
                rows.append(prompts[tuple(ids[:start].tolist())])
        found.append(sorted(rows))
    return found


def test_problems_or_completions_are_dealt_to_the_updates():
    groups, completions = groups_of_updates("group"), groups_of_updates("completion")
    for found in (groups, completions):
        assert [len(rows) for rows in found] == [8, 8, 8]
        assert sorted(g for rows in found for g in rows) == [g for g in range(6) for _ in range(4)]
    assert all(rows.count(g) == 4 for rows in groups for g in set(rows))
    assert all(len(set(rows)) > 3 for rows in completions)


@pytest.mark.parametrize("name", [n for n, o in FAMILY.items() if not o.needed_inputs.whole_groups])
def test_dealt_completions_give_the_same_gradient_over_micro_batches_and_ranks(name):
    rollout, objective = make_rollout(7, 5), FAMILY[name]
    whole = gradient(rollout, objective, 10**6, updates=3, minibatch_unit="completion")
    cut = gradient(rollout, objective, 50, world=2, updates=3, minibatch_unit="completion")
    assert whole.norm() > 0
    assert (whole - cut).norm() <= 1e-6 * whole.norm()


def test_every_rank_gets_as_many_micro_batches():
    rollout, objective = make_rollout(1, 5), NFT()
    signal = objective.prepare(Outcomes(rollout.rewards, rollout.group_ids, rollout.lengths))
    kwargs = {
        "updates": 2,
        "max_tokens_per_micro_batch": 60,
        "reduction": "token_mean",
        "max_new_tokens": 16,
        "seed": 0,
    }
    ranks = [layout(rollout, signal, rank=r, world_size=3, **kwargs) for r in range(3)]
    counts = [[len(b.micro_batches) for b in batches] for batches in ranks]
    assert counts[0] == counts[1] == counts[2]


def test_an_empty_rollout_gives_every_update_and_no_micro_batch():
    rollout = Rollout((), 3)
    signal = NFT().prepare(Outcomes(rollout.rewards, rollout.group_ids.float(), rollout.lengths))
    batches = layout(
        rollout,
        signal,
        updates=4,
        max_tokens_per_micro_batch=40,
        reduction="token_mean",
        max_new_tokens=4,
        seed=0,
    )
    assert [len(b.micro_batches) for b in batches] == [0, 0, 0, 0]


@given(st.integers(0, 50), st.integers(1, 9), st.integers(0, 9))
def test_split_uses_each_group_once(count, parts, seed):
    found = split(count, parts, seed)
    assert len(found) == parts
    assert sorted(i for part in found for i in part) == list(range(count))
    assert max(map(len, found)) - min(map(len, found)) <= 1
