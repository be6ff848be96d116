"""Ways to put another project's numbers through the objectives here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nft_lightning.batching.reduction import token_weights
from nft_lightning.objectives import GRPO, Objective, Outcomes
from nft_lightning.objectives.options import importance_weight, off_policy, reference_kl
from nft_lightning.objectives.ppo import advantages as generalised

Rows = Sequence[Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case of another project's test.

    Attributes:
        source: project and test file. name: their test. what: what is compared.
        theirs: the numbers that their test gives. ours: computes the same numbers here.
        here: what ``ours`` gives where that is another number; None where it is theirs.
        convention: why it is another number.
    """

    source: str
    name: str
    what: str
    theirs: Sequence[float]
    ours: Callable[[], Tensor]
    here: Sequence[float] | None = None
    convention: str = ""


def double(rows: Any) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def losses(
    objective: Objective, new: Rows, old: Rows, given: Rows, mask: Any = None, **more: Any
) -> Tensor:
    """Return [B, T]: each token's loss with an advantage of its own.

    Advantages belong to rows here, so each row stands once for every token, with that token's
    advantage, and only this token's loss is read.
    """
    inputs = {"new": double(new), "old": double(old), **{k: double(v) for k, v in more.items()}}
    shape = inputs["new"].shape
    allowed = torch.ones(shape) if mask is None else torch.tensor(mask)
    tokens = shape[1]
    repeated = {k: v.repeat_interleave(tokens, 0) for k, v in inputs.items()}
    where = allowed.bool().repeat_interleave(tokens, 0)
    advantage = double(given).flatten()
    signal = {"advantage": advantage, "reward": (advantage > 0).double()}
    signal |= {k: v for k, v in repeated.items() if k not in ("new", "old")}
    made = objective.loss(repeated["new"], repeated["old"], where, signal).loss
    return made.view(*shape, tokens).diagonal(dim1=1, dim2=2) * allowed


def mean(made: Tensor) -> Tensor:
    return made.mean().reshape(1)


def total(made: Tensor) -> Tensor:
    return made.sum().reshape(1)


def advantages(objective: Objective, rewards: Sequence[float], ids: Sequence[int]) -> Tensor:
    outcomes = Outcomes(torch.tensor(rewards), torch.tensor(ids), torch.ones(len(ids)))
    return objective.prepare(outcomes).values["advantage"]


def gae(values: Rows, reward: float, gamma: float, lam: float, mask: Any = None) -> Tensor:
    """Return the advantages of one row's tokens."""
    where = torch.ones(len(values[0])).bool() if mask is None else torch.tensor(mask).bool()
    made = generalised(double(values), where[None], double([reward]), gamma, lam)[0]
    return made[0][where]


def reduced(loss: Rows, mask: Any, reduction: str, max_new_tokens: int = 1) -> Tensor:
    """Return [1]: one optimizer batch's loss."""
    where = torch.tensor(mask).double()
    keep = torch.ones(len(where), dtype=torch.bool)
    weights = token_weights(where.sum(1), keep, reduction, max_new_tokens)
    return total(double(loss) * where * weights[:, None])


def weights(old: Rows, engine: Rows, mask: Any = None, **options: Any) -> Tensor:
    """Return [B * T] importance weights against the engine."""
    where = torch.ones(double(old).shape) if mask is None else torch.tensor(mask)
    objective = GRPO(**{f"importance_{k}": v for k, v in options.items()})
    return importance_weight(objective, double(old), double(engine), where.bool()).flatten()


def kept(new: Rows, old: Rows, given: Sequence[float], mask: Any, bound: float) -> Tensor:
    """Return [B]: 1 where off-policy sequence masking keeps the row."""
    signal = {"advantage": double(given), "reward": double(given)}
    objective = GRPO(off_policy_mask=bound)
    out = off_policy(objective, double(new), double(old), torch.tensor(mask).bool(), signal)
    return 1 - out[:, 0].double()


def kl(new: Rows, reference: Rows, estimator: str) -> Tensor:
    ratio = torch.ones_like(double(new))
    return reference_kl(double(new), double(reference), estimator, ratio).flatten()


def kl_slope(new: Rows, old: Rows, reference: Rows, estimator: str, factor: float) -> Tensor:
    """Return the gradient of ``factor`` times the summed estimates."""
    logprobs = double(new).requires_grad_()
    ratio = (logprobs - double(old)).exp().detach()
    loss = factor * reference_kl(logprobs, double(reference), estimator, ratio).sum()
    return torch.autograd.grad(loss, logprobs)[0].flatten()
