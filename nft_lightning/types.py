"""The nouns that travel through the framework, each a small frozen dataclass.

Letters in shapes: B sequences, T tokens, N completions, G groups, K completions per group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from nft_lightning.completion import Completion as Completion
from nft_lightning.verdict import OUTCOMES as OUTCOMES
from nft_lightning.verdict import Verdict as Verdict


@dataclass(frozen=True)
class Problem:
    """A question with its gold answer: ``Problem("arith-7+12-5", "7+12-5", "14")``.

    ``solution`` is a worked answer as the data set gives it, where it gives one; ``extra`` holds the
    data set's other columns, for verifiers that need more than the answer.
    """

    id: str
    text: str
    answer: str
    solution: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Answer:
    """One completion as a verifier sees it: with its problem, and the prompt that was asked."""

    problem: Problem
    prompt_ids: tuple[int, ...]
    completion: Completion


@dataclass(frozen=True)
class Group:
    """One problem with its K completions, their verdicts and their rewards."""

    problem: Problem
    prompt_ids: tuple[int, ...]
    completions: tuple[Completion, ...]
    verdicts: tuple[Verdict, ...]
    rewards: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """r_q: the share of right answers, as the paper estimates it from K samples."""
        return sum(self.rewards) / len(self.rewards)


@dataclass(frozen=True)
class Rollout:
    """The kept groups of one epoch and the statistics of everything that was generated."""

    groups: tuple[Group, ...]
    policy_version: int
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def rewards(self) -> Tensor:
        """Return [N] float32, group after group."""
        return torch.tensor([r for g in self.groups for r in g.rewards])

    @property
    def group_ids(self) -> Tensor:
        """Return [N] int64, the index of each completion's group."""
        return torch.tensor([i for i, g in enumerate(self.groups) for _ in g.rewards])

    @property
    def lengths(self) -> Tensor:
        """Return [N] int64, tokens per completion."""
        return torch.tensor([c.written for g in self.groups for c in g.completions])

    @property
    def truncated(self) -> Tensor:
        """Return [N] bool, completions that met ``max_new_tokens``."""
        return torch.tensor([c.truncated for g in self.groups for c in g.completions])


@dataclass(frozen=True)
class Signal:
    """What an objective computes once a rollout: numbers by name, plus which rows to keep.

    ``values`` [N] and ``token_values`` are looked up by the objective's own ``token_loss``, where they
    are [B] and [B, T]; of the latter each holds N tensors, one number for each token that the policy
    wrote, and no name is in both. ``keep`` [N] bool leaves
    completions out of the loss and out of every denominator. ``zero_gradient`` [N] bool, or None
    for none, marks completions that count in the denominators and have no gradient: they are not
    computed.
    """

    values: Mapping[str, Tensor]
    keep: Tensor
    zero_gradient: Tensor | None = None
    token_values: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)

    @property
    def computed(self) -> Tensor:
        """Return [N] bool: what training has to compute."""
        return self.keep if self.zero_gradient is None else self.keep & ~self.zero_gradient


@dataclass(frozen=True)
class Places:
    """Where the tokens of a micro-batch are, as indices: a device that is given them is not asked.

    columns [C]: columns of [B, T] where some row predicts a completion token, at least one;
    predicted [P]: the places of those tokens in the flattened [B, T]; within [P]: the same in the
    flattened [B, C]; real [N]: the places in the flattened [B, S] of all tokens, the first of each row
    among them; before [P]: which of ``real`` stands before each predicted token; edges [B + 1] int32:
    how many of ``real`` are in the rows before each, and in all; the others are int64. longest: the
    most of them in one row.
    """

    columns: Tensor
    predicted: Tensor
    within: Tensor
    real: Tensor
    before: Tensor
    edges: Tensor
    longest: int

    def to(self, device: torch.device | str) -> Places:
        """Return the same places on ``device``."""
        moved: dict[str, Any] = {
            f.name: value.to(device)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)


def places_of(mask: Tensor, attention_mask: Tensor) -> Places:
    """Return the places of ``mask`` [B, T] and ``attention_mask`` [B, S].

    The host makes them without a wait; from masks on another device, that device is waited for.
    """
    columns = mask.any(0).nonzero()[:, 0]
    if len(columns) == 0:
        columns = torch.zeros(1, dtype=torch.long, device=mask.device)
    predicted = mask.flatten().nonzero()[:, 0]
    within = mask[:, columns].flatten().nonzero()[:, 0]
    real = attention_mask != 0
    real[:, 0] = True  # an empty row still has a token
    order = (real.flatten().cumsum(0) - 1).view_as(real)[:, :-1]
    before = order.flatten()[predicted]
    lengths = real.sum(1)
    edges = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int()
    all_tokens = real.flatten().nonzero()[:, 0]
    return Places(columns, predicted, within, all_tokens, before, edges, int(lengths.max()))


@dataclass(frozen=True)
class TokenBatch:
    """A padded micro-batch. B sequences of S tokens; T = S - 1 predicted positions.

    input_ids [B, S] int64, right-padded; attention_mask [B, S]; mask [B, T] bool, true where a
    completion token is predicted; old_logprobs [B, T] fp32 or None when the ratio is identically 1;
    engine_logprobs [B, T]; reference_logprobs and old_values [B, T] or None where nobody needs them;
    token_weight [B, T] fp32, fixed by ``batching``: the loss is
    ``(token_loss * token_weight).sum()``; signal: [B] and [B, T] tensors of the objective; places: of
    ``mask`` and ``attention_mask``, made before the batch is moved; None where nothing has moved it.
    """

    input_ids: Tensor
    attention_mask: Tensor
    mask: Tensor
    token_weight: Tensor
    engine_logprobs: Tensor
    signal: Mapping[str, Tensor]
    old_logprobs: Tensor | None = None
    reference_logprobs: Tensor | None = None
    old_values: Tensor | None = None
    places: Places | None = None

    @cached_property
    def known_places(self) -> Places:
        """Return ``places``, which are made where they are None: see :func:`places_of`."""
        return places_of(self.mask, self.attention_mask) if self.places is None else self.places

    def inputs(self) -> dict[str, Tensor]:
        """Return what an objective looks up by name: the signal, and the [B, T] tensors that are
        there.
        """
        found = {"engine_logprobs": self.engine_logprobs, **self.signal}
        if self.reference_logprobs is not None:
            found["reference_logprobs"] = self.reference_logprobs
        if self.old_values is not None:
            found["old_values"] = self.old_values
        return found

    def to(self, device: torch.device | str) -> TokenBatch:
        """Return the same batch on ``device``, with its places; float64 signals become fp32, which every
        device has.
        """
        moved = {
            f.name: value.to(device)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        signal = {
            k: v.to(device, v.dtype if v.dtype != torch.float64 else torch.float32)
            for k, v in self.signal.items()
        }
        return replace(self, signal=signal, places=self.known_places.to(device), **moved)


@dataclass(frozen=True)
class OptimizerBatch:
    """One optimizer step: the micro-batches of this rank and the epoch's step number."""

    micro_batches: Sequence[TokenBatch]
    step_in_epoch: int
    policy_version: int

    def to(self, device: torch.device | str) -> OptimizerBatch:
        """Return the same batch on ``device``."""
        return replace(self, micro_batches=[micro.to(device) for micro in self.micro_batches])


@dataclass(frozen=True)
class TokenLoss:
    """loss [B, T] before any reduction; metrics as (sum, count) pairs, which add up exactly.

    ``sums`` are tensors that add up as well, such as histograms; ``objectives.diagnostics`` reads them.
    """

    loss: Tensor
    metrics: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    sums: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn. ``top_p`` and ``top_k`` serve evaluation only.

    A completion ends with an end id of the model, with one of ``stop_token_ids``, or with the token
    that completes a string of ``stop``.
    """

    temperature: float
    max_new_tokens: int
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Numbers:
    """What a trainer's forward passes compute in.

    ``products`` is the type of the layers; with ``fp32_logits`` the head's products are fp32 anyway.
    """

    products: Any = None
    fp32_logits: bool = False
