"""Write docs/objectives.md and draw its two pictures from the objectives themselves.

    python benchmarks/objectives.py

The table's formulas are the ``Right:`` and ``Wrong:`` lines of the docstrings, which
tests/objectives/test_coefficients.py proves; reduction and needs are those of conf/algorithm. The
picture is drawn by autograd: no formula is written a second time.
"""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path
from typing import Any

import torch

from nft_lightning.app.build import build, option, options_of

DOCS = Path(__file__).resolve().parents[1] / "docs"
TEACHER = "distillation"
FAMILIES = {
    "supervised": ("nft", "nft_sequence", "nft_official", "nft_continuous", "rft", "sft"),
    "group-relative": ("grpo", "dr_grpo", "maxrl", "dapo", "gpg"),
    "bounded weights": ("cispo", "sapo", "dppo"),
    "one ratio per sequence": ("gspo", "luspo", "gmpo", "vespo"),
    "REINFORCE": (
        "reinforce",
        "reinforce_batch_baseline",
        "rloo",
        "reinforce_pp_baseline",
        "asymre",
        "dro",
    ),
    "actor-critic": ("ppo",),
    "preference": ("dpo", "infonca"),
    "signed likelihood": ("topr", "psr", "nsr", "w_reinforce"),
    TEACHER: ("distillation",),
}
NEEDS = {
    "binary_rewards": "binary rewards",
    "unit_rewards": "rewards in [0, 1]",
    "values": "critic",
    "whole_groups": "whole groups",
    "references": "reference solutions",
    "reference_logprobs": "reference policy",
    "teacher": "teacher",
}
SAME_CURVES = ("nft_official", "nft_continuous")
ACCURACIES, K = (0.25, 0.5, 0.75), 8
INTRODUCTION = """# Objectives

Made by `python benchmarks/objectives.py` from the docstrings and from `conf/algorithm`; do not edit.

Every algorithm's gradient is a sum over sampled tokens, `grad L = - sum c grad log pi(token)`, times the
weights of the reduction. The table gives c for tokens of right and of wrong answers. R is the token's
ratio to the policy that wrote the rollout, S that of the whole sequence, s its length-normalised form;
r is r_q, the share of right answers to the problem; omega is the prompt weight. `[..]` is 1 where the
condition holds, else 0. T is the row's length and K the problem's completions; what else a line names is
defined in the class's docstring. `tests/objectives/test_coefficients.py` and `test_gates.py` check each
line in float64.

![Coefficient against ratio](objectives.png)

Solid: tokens of right answers. Dashed: of wrong ones. One problem with eight one-token answers; the row
that is drawn moves, the others stay at ratio 1. PPO's critic is taken to know r_q.

"""
OPTIONS = """
Options of every algorithm where they make sense; where one makes none it is refused with the reason:

| option | what it does |
|---|---|
| `kl_coefficient`, `kl_estimator` | KL to the frozen initial policy, by `k1`, `k2`, `k3` or \
`k3_unbiased`. k3's own gradient is biased: in expectation it is that of KL(initial, policy); \
`k3_unbiased` has the right one, off policy too |
| `entropy_coefficient` | bonus on the policy's entropy |
| `dual_clip` | bounds R where the advantage is negative |
| `overlong_buffer_fraction`, `overlong_penalty` | soft length penalty on the reward |
| `mask_truncated` | completions that met the token limit leave the loss |
| `importance_correction`, `importance_correction_level`, `importance_ratio_low`, \
`importance_ratio_high` | \
importance sampling against the engine's log-probabilities: `truncate` (TIS), `mask` (MIS) or `reject` \
(a mask with weight 1), by the ratio of each `token`, their product over the `sequence` or their \
`geometric` mean |
| `off_policy_mask` | wrong answers whose mean log(old / new) is above it leave the loss (off-policy \
sequence masking, arXiv 2512.02556, Eq. 9) |
| `std` | group-relative algorithms: divide by the population's or the sample's standard deviation |

## One prompt weight, four algorithms

NFT's weight omega(r) on a problem that a share r of the answers solves decides which policy gradient
NFT follows at its first update: with `negative_floor` of at most 1 and every ratio 1, a right token
counts omega(r) and a wrong one omega(r) r/(1-r). Three choices give the gradients of algorithms that
were derived otherwise; `tests/objectives/test_identities.py` checks each to 1e-10 on a transformer's
parameters.

| `prompt_weight` | omega(r) | right tokens | wrong tokens | on policy equal to |
|---|---|---|---|---|
| `one` | 1 | 1 | -r/(1-r) | |
| `one_minus_accuracy` | 1-r | 1-r | -r | Dr. GRPO |
| `sqrt_odds` | sqrt((1-r)/r) | sqrt((1-r)/r) | -sqrt(r/(1-r)) | GRPO |
| `odds` | (1-r)/r | (1-r)/r | -1 | MaxRL |

![omega against the share of right answers](prompt_weights.png)

The steeper omega is near 0, the more the hard problems count. After the first update the four part: the
others clip a ratio that has moved, NFT keeps right tokens whole and lets wrong ones fade.

With rewards r_i anywhere in [0, 1] (`algorithm=nft_continuous`) an answer counts
omega(r) (r_i - r)/(1-r), where r is their mean. Those are still Dr. GRPO's and MaxRL's advantages, but
not GRPO's, whose standard deviation is then below sqrt(r(1-r)).

## On-policy distillation

```
nft-train algorithm=distillation algorithm.teacher_path=FOLDER
```

The teacher, a model with the policy's tokens, scores every token that the policy writes: A is its
log-probability minus the old policy's, within `advantage_clip`. On policy the gradient is in expectation
that of KL(policy, teacher) over the next token (`tests/objectives/test_distillation.py`, in float64).
`objective/teacher_gap` is the mean of -A, an estimate of that KL. The teacher's log-probabilities are
taken at `rollout.temperature` as well. A teacher is frozen and kept beside the policy, also under LoRA;
a resumed run refuses another one.

## Further identities

Equal to GRPO on policy: CISPO, SAPO, DPPO, GSPO, GMPO and VESPO; to Dr. GRPO: DRO.

Equal always: RFT and NFT with negative weight 0 and prompt weight one; `nft_continuous` and NFT where
rewards are 0 and 1; InfoNCA and DPO at K = 2; GSPO and GRPO, LUSPO and GSPO at length 1; DAPO and GRPO,
CISPO and REINFORCE where nothing is clipped.

`tests/golden` holds the losses and gradient norms of ten updates of NFT, GRPO, DAPO and PPO on stored
completions, in float64: a new version of a library that moves one of them by more than 1e-6 is seen, and
another processor is not.

M2PO (arXiv 2510.01161) is not here. Its mask sorts the log-ratios of all tokens of an update under the
weights that are about to step, which takes a forward pass of its own before each update; sorted within a
micro-batch, as in published code, the loss would depend on how rows share micro-batches. When a rollout
is prepared every ratio is 1, so that nothing could be masked then.
"""


def algorithms() -> dict[str, Any]:
    """Each yaml's objective, family after family."""
    names = [name for family in FAMILIES.values() for name in family]
    assert sorted(names) == options_of("algorithm")
    return {name: build(option("algorithm", name), "algorithm") for name in names}


def line(objective: Any, label: str) -> str:
    """What the docstring says after ``label:``."""
    found = re.search(rf"^{label}: (.+)$", inspect.getdoc(type(objective)) or "", re.M)
    assert found, f"{type(objective).__name__} has no line {label}:"
    text = found[1].replace("``", "`").replace("|", "\\|")
    return text.replace("R", "S") if getattr(objective, "ratio_level", "") == "sequence" else text


def needs(objective: Any) -> str:
    """What the collector must provide."""
    given = objective.needed_inputs
    words = [f"K >= {given.group_size}"] if given.group_size > 1 else []
    words += [text for name, text in NEEDS.items() if getattr(given, name)]
    if given.teacher:
        words.remove(NEEDS["reference_logprobs"])
    if objective.drop_uniform_groups:
        words.append("varied groups")
    return ", ".join(words)


def page() -> str:
    """The whole of docs/objectives.md."""
    rows = [
        "| family | `algorithm=` | class | right tokens | wrong tokens | reduction | needs | source |",
        "|---|---|---|---|---|---|---|---|",
    ]
    made = algorithms()
    for family, names in FAMILIES.items():
        for name in names:
            o = made[name]
            rows.append(
                f"| {family} | `{name}` | `{type(o).__name__}` | {line(o, 'Right')} | "
                f"{line(o, 'Wrong')} | {o.reduction} | {needs(o)} | {line(o, 'Source')} |"
            )
    return INTRODUCTION + "\n".join(rows) + "\n" + OPTIONS


def coefficient(objective: Any, accuracy: float, log_ratio: float, right: bool) -> float:
    """c of one token by autograd; nan where the algorithm has no such token."""
    count = round(accuracy * K)
    if objective.needed_inputs.references and not right:
        return math.nan
    row = 0 if right else K - 1
    old = torch.full((K, 1), -1.0, dtype=torch.float64)
    logprobs = old.clone()
    logprobs[row] += log_ratio
    logprobs.requires_grad_()
    rewards = (torch.arange(K) < count).double()
    values = torch.full((K, 1), accuracy, dtype=torch.float64)
    given = {"values": values, "old_values": values} if objective.needed_inputs.values else {}
    ids = torch.zeros(K)
    out = objective(logprobs, old, torch.ones(K, 1), rewards, ids, **given)
    (slope,) = torch.autograd.grad(out.loss, logprobs)
    # Undo the weight of a row, which is 1 over the rows that take part, or 1/1000.
    kept = int((out.token_loss.new_tensor(weights(objective, rewards, ids)) > 0).sum())
    scale = 1000 if objective.reduction == "sum_per_1000" else kept
    return -float(slope[row]) * scale


def weights(objective: Any, rewards: torch.Tensor, ids: torch.Tensor) -> list[bool]:
    """Which rows take part."""
    from nft_lightning.objectives import Outcomes

    kept: list[bool] = objective.signal(Outcomes(rewards, ids, torch.ones(K))).keep.tolist()
    return kept


def draw(path: Path) -> None:
    """A row of panels for each family, a column for each r_q."""
    from matplotlib.figure import Figure

    made = algorithms()
    ratios = [0.02 * i for i in range(10, 101)]
    # A ratio just off 1 would fall on GSPO's narrow interval; the grid holds 1 itself.
    figure = Figure(figsize=(13, 21), layout="constrained")
    # A teacher's coefficient does not depend on the verdict.
    families = {family: names for family, names in FAMILIES.items() if family != TEACHER}
    axes = figure.subplots(len(families), len(ACCURACIES), sharex=True)
    for panels, (family, names) in zip(axes, families.items(), strict=True):
        for axis, accuracy in zip(panels, ACCURACIES, strict=True):
            for index, name in enumerate(n for n in names if n not in SAME_CURVES):
                for right, style in ((True, "-"), (False, "--")):
                    c = [coefficient(made[name], accuracy, math.log(r), right) for r in ratios]
                    label = name if right else None
                    # Curves that coincide stay visible through different widths.
                    width = max(3.6 - 0.55 * index, 1.0)
                    axis.plot(ratios, c, style, color=f"C{index}", lw=width, label=label)
            axis.axhline(0, color="black", lw=0.6)
            axis.axvline(1, color="black", lw=0.6, ls=":")
            axis.grid(alpha=0.25)
            axis.set_title(f"{family}, r_q = {accuracy}", fontsize=10)
        panels[0].set_ylabel("coefficient c")
        panels[-1].legend(fontsize=9, loc="center left", bbox_to_anchor=(1.02, 0.5))
    for axis in axes[-1]:
        axis.set_xlabel("ratio R")
    figure.savefig(path, dpi=90)


def draw_weights(path: Path) -> None:
    """omega(r) of each prompt weight, read from ``prepare``."""
    from matplotlib.figure import Figure

    from nft_lightning.objectives import NFT, Outcomes
    from nft_lightning.objectives.nft import PROMPT_WEIGHTS

    size = 50
    counts = range(1, size)
    rewards = torch.cat([(torch.arange(size) < count).double() for count in counts])
    ids = torch.arange(len(counts)).repeat_interleave(size)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for name in PROMPT_WEIGHTS:
        made = NFT(prompt_weight=name).prepare(Outcomes(rewards, ids, torch.ones(len(ids))))
        weight = made.values["prompt_weight"][::size]
        axis.plot([count / size for count in counts], weight.tolist(), label=name)
    axis.set(xlabel="share of right answers r", ylabel="omega(r)", ylim=(0, 4))
    axis.grid(alpha=0.25)
    axis.legend()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    (DOCS / "objectives.md").write_text(page(), encoding="utf-8")
    draw(DOCS / "objectives.png")
    draw_weights(DOCS / "prompt_weights.png")
