"""A critic with a trunk of its own: what it begins with, what reaches it, what it can learn."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from nft_lightning import PPO, PolicyModule, load_policy
from nft_lightning.app.parts import build_parts
from nft_lightning.app.preflight import check_machine
from nft_lightning.errors import UserError
from nft_lightning.policy.value_model import critic_of, parts_of, values_of
from nft_lightning.types import TokenBatch

PROMPTS = ("7+12-5=", "3+4=", "8-2+9=")
ANSWERS = ("14", "7", "3")


def made_batch(policy):
    """Three rows of unequal length: prompt and answer."""
    rows = [
        policy.tokenizer(p)["input_ids"] + policy.tokenizer(a)["input_ids"]
        for p, a in zip(PROMPTS, ANSWERS, strict=True)
    ]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    there = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    mask = there[:, 1:].bool()
    return TokenBatch(ids, there, mask, mask.float(), torch.zeros(mask.shape), {})


def stirred(critic):
    """The critic with an outer layer that is not 0, so that values and gradients are not either."""
    torch.nn.init.constant_(parts_of(critic)[0].outer.weight, 0.1)
    return critic


def test_it_begins_with_the_policys_trunk_and_shares_nothing():
    policy = load_policy("tiny")
    critic = critic_of(policy, None, own=True)
    batch = made_batch(policy)
    assert (values_of(critic, policy, batch, None) == 0).all()
    # On equal trunks, a head of the policy's states and the model of its own say the same.
    head = critic_of(policy, None, own=False)
    head.load_state_dict(stirred(critic).head.state_dict())
    own = values_of(critic, policy, batch, None)
    read = values_of(head, policy, batch, policy(batch, hidden=True).hidden)
    assert own.shape == batch.mask.shape
    assert torch.allclose(own, read, atol=1e-6)
    before = copy.deepcopy(policy.model.state_dict())
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.add_(1.0)
    after = policy.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_rows_end_to_end_have_the_same_values():
    policy = load_policy("tiny")
    critic, batch = stirred(critic_of(policy, None, own=True)), made_batch(policy)
    padded = values_of(critic, policy, batch, None)
    policy.padding_free = True
    flat = values_of(critic, policy, batch, None)
    assert torch.allclose(padded[batch.mask], flat[batch.mask], atol=1e-5)


def test_each_of_policy_and_critic_gets_its_own_gradient():
    policy = load_policy("tiny")
    batch = made_batch(policy)
    signal = {"final_reward": torch.tensor([1.0, 0.0, 1.0]), "reward": torch.tensor([1.0, 0.0, 1.0])}
    slopes = {}
    for kind in ("head", "own"):
        module = PolicyModule(policy, PPO(critic=kind))
        stirred(module.critic)
        out, tokens = module.token_loss(module.objective, replace(batch, signal=signal))
        assert (out.hidden is None) == (kind == "own")
        (tokens.loss * batch.token_weight).sum().backward()
        slopes[kind] = torch.cat([p.grad.flatten() for p in policy.parameters()])
        policy.zero_grad()
        parts = module.trained[1:]
        assert [type(p).__name__ for p in parts] == ["ValueHead", "LlamaModel"][: len(parts)]
        assert all(p.grad is not None for part in parts for p in part.parameters())
    # Equal values, hence equal advantages: the policy's gradient is the clipped one only.
    assert slopes["own"].abs().max() > 0
    assert torch.allclose(slopes["own"], slopes["head"], atol=1e-5)


def test_it_learns_the_returns():
    """What a reader of the whole prompt can know: the first answer is right, the others are not."""
    policy = load_policy("tiny")
    critic, batch = critic_of(policy, None, own=True), made_batch(policy)
    optimizer = torch.optim.AdamW(critic.parameters(), lr=1e-3)
    returns = torch.tensor([[1.0], [0.0], [0.0]]).expand(batch.mask.shape)
    errors = []
    for _ in range(30):
        error = ((values_of(critic, policy, batch, None) - returns)[batch.mask] ** 2).mean()
        errors.append(float(error))
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert errors[-1] < 0.2 * errors[0]


def test_another_model_may_be_its_start():
    policy = load_policy("tiny")
    own, other = (critic_of(policy, path, own=True).trunk for path in (None, "tiny_unsure"))
    assert not torch.equal(own.layers[0].mlp.up_proj.weight, other.layers[0].mlp.up_proj.weight)
    half = load_policy("tiny")
    half.model.to(torch.bfloat16)
    assert next(critic_of(half, "tiny_unsure", own=True).parameters()).dtype == torch.bfloat16


def test_another_vocabulary_is_refused(tmp_path):
    policy = load_policy("tiny")
    policy.tokenizer.save_pretrained(tmp_path)
    policy.model.save_pretrained(tmp_path)
    other = load_policy("tiny")
    other.tokenizer.add_tokens(["hello"])
    with pytest.raises(UserError, match=r"algorithm\.critic_path=.*another vocabulary"):
        critic_of(other, str(tmp_path), own=True)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algorithm.critic=owm"], r"algorithm\.critic='owm' is not known: use one of head, own"),
        (["algorithm.critic_path=x"], r"critic_path='x' has no effect .*: use algorithm\.critic=own"),
        (["algorithm.critic_learning_rate=1"], r"critic_learning_rate=1\.0 has no effect"),
        (["algorithm.critic=own", "policy.lora_rank=4"], r"algorithm\.critic='own' would train a whole"),
        (
            ["algorithm.critic=own", "trainer=fsdp2"],
            r"critic='own' is not cut over the ranks",
        ),
        (["algorithm.critic=own", "algorithm.critic_path=./none"], r"algorithm\.critic_path='./none' "),
    ],
)
def test_what_cannot_work_is_refused_before_a_model_is_loaded(compose_config, overrides, message):
    cfg = compose_config("algorithm=ppo", "run_dir=x", *overrides)
    with pytest.raises(UserError, match=message):
        check_machine(cfg, build_parts(cfg))


def test_adapters_are_refused_in_python_too():
    with pytest.raises(UserError, match="beside LoRA's matrices"):
        PolicyModule(load_policy("tiny", lora_rank=4), PPO(critic="own"))
