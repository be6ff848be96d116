"""The options around every algorithm, and the combinations that are refused."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch
from omegaconf import OmegaConf

from nft_lightning.app.build import CONF_DIR, option
from nft_lightning.errors import UserError
from nft_lightning.objectives import (
    CISPO,
    DAPO,
    DPO,
    DPPO,
    DRO,
    GMPO,
    GPG,
    GRPO,
    GSPO,
    NFT,
    NSR,
    PPO,
    PSR,
    REINFORCE,
    RFT,
    SAPO,
    SFT,
    TOPR,
    VESPO,
    AsymRE,
    DrGRPO,
    InfoNCA,
    MaxRL,
    REINFORCEPlusPlusBaseline,
    WeightedREINFORCE,
)
from tests.objectives.family import FAMILY, evaluate

MASK = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]]).bool()
REWARDS, IDS = torch.tensor([1.0, 0.0, 0.0, 1.0]), torch.zeros(4, dtype=torch.long)


def tensors(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    made = -torch.rand(4, 4, 3, generator=generator, dtype=torch.float64)
    logprobs, old, reference, engine = made.unbind(0)
    return logprobs.clone().requires_grad_(), old, reference, engine


def slope(out, logprobs):
    return torch.autograd.grad(out.loss, logprobs)[0]


@pytest.mark.parametrize("name", [n for n in FAMILY if n not in ("sft", "distillation")])
@pytest.mark.parametrize(
    ("estimator", "coefficient"),
    [
        ("k1", lambda d, ratio: d),
        ("k2", lambda d, ratio: d),
        ("k3", lambda d, ratio: 1 - torch.exp(-d)),
        ("k3_unbiased", lambda d, ratio: ratio * d),
    ],
)
def test_reference_kl_adds_its_gradient(name, estimator, coefficient):
    logprobs, old, reference, _ = tensors()
    plain = FAMILY[name]
    with_kl = replace(plain, kl_coefficient=0.3, kl_estimator=estimator)
    assert with_kl.needed_inputs.reference_logprobs
    assert not plain.needed_inputs.reference_logprobs
    a = slope(evaluate(plain, logprobs, old, MASK, REWARDS, IDS), logprobs)
    out = evaluate(with_kl, logprobs, old, MASK, REWARDS, IDS, reference_logprobs=reference)
    b = slope(out, logprobs)
    kept = MASK & plain.prepare(outcomes()).keep[:, None]
    from nft_lightning.batching.reduction import token_weights

    weights = token_weights(kept.sum(1), kept.any(1), plain.reduction, 3)[:, None] * kept
    now = logprobs.detach()
    expected = 0.3 * coefficient(now - reference, (now - old).exp()) * weights
    assert torch.allclose(b - a, expected, rtol=0, atol=1e-12)
    assert math.isfinite(out.metrics["kl_reference"])


def outcomes():
    from nft_lightning.objectives import Outcomes

    return Outcomes(REWARDS, IDS, MASK.sum(1))


def test_entropy_bonus():
    logprobs, old, _, _ = tensors()
    entropy = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    objective = GRPO(entropy_coefficient=0.5)
    assert objective.needed_inputs.entropy
    out = objective(logprobs, old, MASK, REWARDS, IDS, entropy=entropy)
    (grad,) = torch.autograd.grad(out.loss, entropy)
    assert torch.allclose(grad, -0.5 * MASK.double() / MASK.sum(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        *((kind, level) for kind in ("mask", "reject") for level in ("token", "sequence", "geometric")),
        ("truncate", "token"),
        ("truncate", "sequence"),
    ],
)
def test_importance_sampling_against_the_engine(kind, level):
    logprobs, old, _, engine = tensors()
    low, high = (0.95, 1.05) if level == "geometric" else (0.8, 1.2)
    options = {"importance_correction": kind, "importance_correction_level": level}
    if kind != "truncate":
        options["importance_ratio_low"] = low
    plain, corrected = GRPO(), GRPO(**options, importance_ratio_high=high)
    gap = old - engine
    whole = (gap * MASK).sum(1, keepdim=True).expand(4, 3)
    compared = {"token": gap, "sequence": whole, "geometric": whole / MASK.sum(1, keepdim=True)}[level]
    ratio = whole.exp() if level == "sequence" else gap.exp()
    inside = (compared.exp() <= high) & ((compared.exp() >= low) | (kind == "truncate"))
    assert 0 < inside[MASK].sum() < MASK.sum()
    weight = {"truncate": ratio.clamp(max=high), "mask": ratio * inside, "reject": inside}[kind]
    a = slope(plain(logprobs, old, MASK, REWARDS, IDS), logprobs)
    b = slope(corrected(logprobs, old, MASK, REWARDS, IDS, engine_logprobs=engine), logprobs)
    assert torch.allclose(b, a * weight, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["grpo", "nft", "nft_continuous", "topr", "cispo", "dro", "vespo"])
def test_off_policy_sequences_of_wrong_answers_leave(name):
    """Rows 0 and 3 are right; row 1 has moved by 0.4 a token, row 2 by 0.1; all moved down."""
    old = torch.full((4, 3), -1.0, dtype=torch.float64)
    moved = torch.tensor([[0.4] * 3, [0.2, 0.6, 9.0], [0.1, 9.0, 9.0], [0.4] * 3], dtype=torch.float64)
    logprobs = (old - moved).requires_grad_()
    plain = FAMILY[name]
    masked = replace(plain, off_policy_mask=0.3)
    a = slope(plain(logprobs, old, MASK, REWARDS, IDS), logprobs)
    out = masked(logprobs, old, MASK, REWARDS, IDS)
    b = slope(out, logprobs)
    assert torch.equal(a[[0, 2, 3]], b[[0, 2, 3]])
    assert (b[1] == 0).all()
    assert out.metrics["off_policy_masked_fraction"] == pytest.approx(2 / 9)


@pytest.mark.parametrize("cls", [GRPO, DAPO, GSPO, REINFORCEPlusPlusBaseline, NSR])
def test_dual_clip_bounds_a_wrong_token_whose_ratio_rises(cls):
    old = torch.full((2, 1), -9.0, dtype=torch.float64)
    logprobs = (old + math.log(5.0)).requires_grad_()
    rewards, ids = torch.tensor([1.0, 0.0]), torch.zeros(2)
    free = cls()(logprobs, old, torch.ones(2, 1), rewards, ids)
    bound = cls(dual_clip=3.0)(logprobs, old, torch.ones(2, 1), rewards, ids)
    assert slope(free, logprobs)[1] != 0
    assert slope(bound, logprobs)[1] == 0
    assert bound.token_loss[1].item() == pytest.approx(free.token_loss[1].item() * 3 / 5)
    assert torch.equal(bound.token_loss[0], free.token_loss[0])


def test_truncated_completions_leave_the_loss():
    logprobs, old, _, _ = tensors()
    truncated = torch.tensor([False, False, False, True])
    out = GRPO(mask_truncated=True)(logprobs, old, MASK, REWARDS, IDS, truncated=truncated)
    grad = slope(out, logprobs)
    assert (grad[3] == 0).all()
    assert (grad[0] != 0).all()
    dpo = DPO(mask_truncated=True)
    out = dpo(logprobs, old, MASK, REWARDS, IDS, truncated=torch.tensor([True, False, False, True]))
    assert out.loss == 0  # no right answer remains, so there is no pair
    with pytest.raises(UserError, match="truncated"):
        GRPO(mask_truncated=True)(logprobs, old, MASK, REWARDS, IDS)


def test_overlong_shaping_changes_the_advantage():
    logprobs, old, _, _ = tensors()
    for objective in (GRPO, REINFORCE, GPG, PPO, CISPO):
        made = objective(overlong_buffer_fraction=0.5, overlong_penalty=2.0)
        a = evaluate(objective(), logprobs, old, MASK, REWARDS, IDS, max_new_tokens=3)
        b = evaluate(made, logprobs, old, MASK, REWARDS, IDS, max_new_tokens=3)
        assert not torch.equal(a.token_loss[0], b.token_loss[0])


REFUSED = [
    (NFT, "overlong_buffer_fraction", 0.2, "right/wrong signal"),
    (RFT, "overlong_buffer_fraction", 0.2, "right/wrong signal"),
    (TOPR, "overlong_buffer_fraction", 0.2, "right/wrong signal"),
    (PSR, "overlong_buffer_fraction", 0.2, "right/wrong signal"),
    (NFT, "dual_clip", 3.0, "negative_floor"),
    (GPG, "dual_clip", 3.0, "no clipped ratio"),
    (CISPO, "dual_clip", 3.0, "both signs"),
    (PPO, "prompt_weight", "sqrt_odds", "no groups"),
    (GRPO, "prompt_weight", "sqrt_odds", "already weighs"),
    (TOPR, "prompt_weight", "one", "constants"),
    (DPO, "importance_correction", "truncate", "whole completions"),
    (InfoNCA, "dual_clip", 3.0, "no clipped ratio"),
    (SFT, "kl_coefficient", 0.1, "no policy sampled"),
    (SFT, "importance_correction", "mask", "no policy sampled"),
    (SFT, "mask_truncated", True, "no policy sampled"),
    (SFT, "off_policy_mask", 0.5, "no policy sampled"),
    (DPO, "off_policy_mask", 0.5, "whole completions"),
    (PPO, "off_policy_mask", 0.5, "advantage of its own"),
    (DrGRPO, "std", "sample", "no standard deviation"),
    (MaxRL, "std", "sample", "mean"),
    (REINFORCEPlusPlusBaseline, "normalize_std", True, "whole rollout"),
]


@pytest.mark.parametrize(("cls", "field", "value", "reason"), REFUSED)
def test_combinations_without_sense_are_refused_with_the_reason(cls, field, value, reason):
    with pytest.raises(UserError, match=f"algorithm.{field}.*{cls.__name__}.*{reason}"):
        cls(**{field: value})


INERT = [
    ({"kl_estimator": "k1"}, "kl_coefficient is 0"),
    ({"importance_ratio_high": 3.0}, "importance_correction is none"),
    ({"importance_correction_level": "sequence"}, "importance_correction is none"),
    ({"importance_correction": "truncate", "importance_ratio_low": 0.1}, "not mask"),
    (
        {"importance_correction": "truncate", "importance_correction_level": "geometric"},
        "masks sequences",
    ),
    ({"kl_coefficient": -0.1}, "is below 0: use 0 for off"),
    ({"kl_coefficient": 0.1, "kl_estimator": "k4"}, "k1, k2, k3, k3_unbiased"),
    ({"entropy_coefficient": math.inf}, "is not finite: use 0 for off"),
    ({"off_policy_mask": -0.1}, "is below 0: use 0 for off"),
    ({"std": "median"}, "population, sample"),
    ({"std": "sample", "normalize_std": False}, "normalize_std is false"),
    ({"importance_correction": "tis"}, "none, truncate, mask, reject"),
    ({"importance_correction": "mask", "importance_ratio_low": 1.5}, r"is outside \[0, 1\)"),
    ({"dual_clip": 0.5}, "above 1"),
    ({"dual_clip": 1.1}, "inside the interval"),
]


@pytest.mark.parametrize(("options", "reason"), INERT)
def test_options_that_are_wrong_or_idle_are_refused(options, reason):
    with pytest.raises(UserError, match=reason):
        GRPO(**options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: REINFORCE(baseline="leave_one_out"),
        lambda: REINFORCE(baseline="mean"),
        lambda: PSR(negative_weight=1.0),
        lambda: NSR(positive_weight=1.0),
        lambda: WeightedREINFORCE(positive_weight=0.0, negative_weight=0.0),
        lambda: WeightedREINFORCE(positive_weight=-1.0),
        lambda: TOPR(negative_weight=-1.0),
        lambda: DPO(beta=0.0),
        lambda: DPO(sft_coefficient=-1.0),
        lambda: DPO(drop_uniform_groups=False),
        lambda: PPO(gamma=1.1),
        lambda: PPO(value_clip=0.0),
        lambda: PPO(critic_gae_lambda=1.5),
        lambda: PPO(value_learning_rate=0.0),
        lambda: SAPO(temperature_positive=0.0),
        lambda: DPPO(limit_low=float("nan")),
        lambda: DPPO(divergence="js"),
        lambda: VESPO(decay_negative=float("inf")),
        lambda: GMPO(log_clip_high=-0.4),
        lambda: DRO(beta=0.0),
        lambda: AsymRE(baseline_shift=float("nan")),
        lambda: DAPO(overlong_buffer_fraction=1.0),
        lambda: RFT(prompt_weight="two"),
        lambda: NFT(ratio_level="word"),
        lambda: NFT(accuracy_clamp=(0.9, 0.1)),
    ],
)
def test_settings_without_sense_are_refused(make):
    with pytest.raises(UserError, match=r"algorithm\."):
        make()


@pytest.mark.parametrize(
    ("objective", "name"),
    [
        (GRPO(kl_coefficient=0.1), "reference_logprobs"),
        (NFT(importance_correction="truncate"), "engine_logprobs"),
        (GRPO(entropy_coefficient=0.1), "entropy"),
        (PPO(), "values"),
    ],
)
def test_a_missing_tensor_is_named(objective, name):
    logprobs, old, _, _ = tensors()
    with pytest.raises(UserError, match=name):
        objective(logprobs, old, MASK, REWARDS, IDS)


def test_an_unknown_or_misshapen_tensor_is_refused():
    logprobs, old, reference, _ = tensors()
    with pytest.raises(UserError, match="referenc"):
        GRPO()(logprobs, old, MASK, REWARDS, IDS, referenc=reference)
    with pytest.raises(UserError, match="differs from logprobs"):
        GRPO()(logprobs, old, MASK, REWARDS, IDS, reference_logprobs=reference[:, :2])


@pytest.mark.parametrize("name", FAMILY)
def test_a_yaml_names_every_option_that_its_class_takes(name):
    """So that each can be set on the command line, and an option without meaning says why."""
    given = option("algorithm", name)
    taken = {f.name: f.default for f in fields(type(FAMILY[name]))}
    unsupported = set(type(FAMILY[name]).unsupported_options)
    assert set(taken) - set(given) <= unsupported
    assert set(given) - {"_target_"} <= set(taken)
    for refused in unsupported & set(taken) & set(given):
        assert given[refused] == taken[refused]


def test_the_shared_options_stand_once():
    """An algorithm's file says only what sets it apart."""
    shared = OmegaConf.load(CONF_DIR / "algorithm" / "base.yaml")
    for name in FAMILY:
        own = OmegaConf.load(CONF_DIR / "algorithm" / f"{name}.yaml")
        assert [key for key in own if key in shared and own[key] == shared[key]] == []


def test_tools_see_the_fields():
    import inspect

    assert "prompt_weight" in inspect.signature(NFT).parameters
    assert "clip_low" in inspect.signature(GRPO).parameters
