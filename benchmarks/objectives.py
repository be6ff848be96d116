"""Write docs/objectives.md and draw its three pictures from the objectives themselves.

    python benchmarks/objectives.py

The table's formulas are the ``Right:`` and ``Wrong:`` lines of the docstrings, which
tests/objectives/test_coefficients.py checks; reduction and needs are those of conf/algorithm. The
pictures are drawn by autograd: no formula is written a second time.
"""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nft_lightning.app.build import build, option, options_of
from nft_lightning.common.pictures import INK, STYLE, encoded, label_ends, look

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
# What the first picture compares.
MESSAGE = ("nft", "grpo", "dapo", "dr_grpo")
ACCURACIES, K = (0.25, 0.5, 0.75), 8
# A ratio just off 1 would fall on GSPO's narrow interval; the grid holds 1 itself.
RATIOS = [0.01 * i for i in range(20, 201)]
INTRODUCTION = """# Objectives

Made by `python benchmarks/objectives.py` from the docstrings and from `conf/algorithm`; do not edit.

Every algorithm's gradient is a sum over sampled tokens, `grad L = - sum c grad log pi(token)`, times the
weights of the reduction. The table gives c for tokens of right and of wrong answers. R is the token's
ratio to the policy that wrote the rollout, S that of the whole sequence, s its length-normalised form;
r is r_q, the share of right answers to the problem; omega is the prompt weight. `[..]` is 1 where the
condition holds, else 0. T is the row's length and K the problem's completions; what else a line names is
defined in the class's docstring. `tests/objectives/test_coefficients.py` and `test_gates.py` check each
line in float64.

![Coefficient against ratio: NFT, GRPO, DAPO and Dr. GRPO](objectives.png)

Above 0: tokens of right answers; below: of wrong ones. One problem with eight one-token answers; the row
that is drawn moves, the others stay at ratio 1. Where the others clip, their coefficient falls to 0 at
once; NFT keeps right tokens whole, and the push on wrong ones fades as their ratio falls. The
[other families](#all-families) are below.

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

## All families

The same picture for each family of the table; PPO's critic is taken to know r_q.

![Coefficient against ratio, family by family](objectives_all.png)

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


def panel_of(axis: Any, named: dict[str, Any], accuracy: float) -> dict[str, float]:
    """Draw the coefficients of right tokens above 0 and of wrong ones below; the ends of the former."""
    ends = {}
    for index, (name, objective) in enumerate(named.items()):
        for right in (True, False):
            c = [coefficient(objective, accuracy, math.log(r), right) for r in RATIOS]
            axis.plot(RATIOS, c, **look(index, marked=False))
            if right:
                ends[name] = c[-1]
    axis.axhline(0, color=INK, linewidth=0.8)
    axis.axvline(1, color=INK, linewidth=0.8)
    axis.set_title(f"a share of {accuracy:g} of the answers is right")
    return ends


def draw(path: Path) -> None:
    """One row: NFT beside the algorithms that it is compared with most."""
    made = algorithms()
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    panels = figure.subplots(1, len(ACCURACIES), sharex=True, sharey=True)
    for axis, accuracy in zip(panels, ACCURACIES, strict=True):
        ends = panel_of(axis, {name: made[name] for name in MESSAGE}, accuracy)
        axis.set_xlabel("ratio R")
    panels[0].set_ylabel("wrong     coefficient c     right")
    label_ends(panels[-1], ends)
    path.write_bytes(encoded(figure, "png"))


def draw_all(path: Path) -> None:
    """A row of panels for each family, a column for each share of right answers."""
    made = algorithms()
    # A teacher's coefficient does not depend on the verdict.
    families = {family: names for family, names in FAMILIES.items() if family != TEACHER}
    figure = Figure(figsize=(10, 2.1 * len(families)), layout="constrained")
    for part, (family, names) in zip(figure.subfigures(len(families), 1), families.items(), strict=True):
        shown = [name for name in names if name not in SAME_CURVES]
        panels = part.subplots(1, len(ACCURACIES), sharex=True, sharey=True)
        for axis, accuracy in zip(panels, ACCURACIES, strict=True):
            panel_of(axis, {name: made[name] for name in shown}, accuracy)
            axis.set_title(f"{family}, {accuracy:g} right")
        handles = [Line2D([], [], label=n, **look(i, False)) for i, n in enumerate(shown)]
        part.legend(handles=handles, loc="outside right center", fontsize="small")
    figure.supxlabel("ratio R", fontsize="small")
    path.write_bytes(encoded(figure, "png", 100))


def draw_weights(path: Path) -> None:
    """omega(r) of each prompt weight, read from ``prepare``."""
    from nft_lightning.objectives import NFT, Outcomes
    from nft_lightning.objectives.nft import PROMPT_WEIGHTS

    size, most = 50, 4
    counts = range(1, size)
    rewards = torch.cat([(torch.arange(size) < count).double() for count in counts])
    ids = torch.arange(len(counts)).repeat_interleave(size)
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axis = figure.subplots()
    for index, name in enumerate(PROMPT_WEIGHTS):
        made = NFT(prompt_weight=name).prepare(Outcomes(rewards, ids, torch.ones(len(ids))))
        weight = made.values["prompt_weight"][::size].tolist()
        shares = [count / size for count in counts]
        axis.plot(shares, weight, label=name, **look(index, marked=False))
    axis.set(xlabel="share of right answers r", ylabel="omega(r)", ylim=(0, most), xlim=(0, 1))
    # The curves end close to each other, and are far apart at the start, where they leave the panel.
    axis.legend(loc="upper right")
    path.write_bytes(encoded(figure, "png"))


def main() -> None:
    (DOCS / "objectives.md").write_text(page(), encoding="utf-8")
    with mpl.rc_context(STYLE):
        draw(DOCS / "objectives.png")
        draw_all(DOCS / "objectives_all.png")
        draw_weights(DOCS / "prompt_weights.png")


if __name__ == "__main__":
    main()
