"""Rollouts and batches as plain data that ``torch.load(weights_only=True)`` reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nft_lightning.types import Completion, Group, OptimizerBatch, Problem, Rollout, TokenBatch, Verdict

Packed = dict[str, Any]


def pack_ragged(rows: Iterable[Any], dtype: Any) -> tuple[Tensor, Tensor]:
    """Return rows of any lengths as one flat tensor of numpy's ``dtype`` and [N] lengths."""
    made = [np.asarray(row, dtype) for row in rows]
    flat = np.concatenate([np.zeros(0, dtype), *made])
    return torch.from_numpy(flat), torch.tensor([len(row) for row in made], dtype=torch.int64)


def unpack_ragged(packed: tuple[Tensor, Tensor]) -> list[npt.NDArray[Any]]:
    """Return the rows of :func:`pack_ragged`."""
    flat, lengths = packed[0].numpy(), packed[1].tolist()
    return [flat[a:b] for a, b in pairwise(accumulate(lengths, initial=0))]


def pack_groups(groups: Sequence[Group]) -> Packed:
    """Column by column; token ids, log-probabilities and masks flat."""
    completions = [c for g in groups for c in g.completions]
    verdicts = [v for g in groups for v in g.verdicts]
    return {
        "problems": [
            (p.id, p.text, p.answer, p.solution, dict(p.extra)) for p in (g.problem for g in groups)
        ],
        "prompts": pack_ragged((g.prompt_ids for g in groups), np.int32),
        "sizes": [len(g.completions) for g in groups],
        "rewards": pack_ragged((g.rewards for g in groups), np.float64),
        "token_ids": pack_ragged((c.token_ids for c in completions), np.int32),
        "logprobs": pack_ragged((c.logprobs for c in completions), np.float32),
        "texts": [c.text for c in completions],
        "truncated": [c.truncated for c in completions],
        "versions": [c.policy_version for c in completions],
        "masks": [None if c.mask is None else torch.tensor(c.mask) for c in completions],
        "verdicts": [
            (v.outcome, v.extracted, v.seconds, v.score, None if v.parts is None else dict(v.parts))
            for v in verdicts
        ],
    }


def unpack_groups(packed: Packed) -> list[Group]:
    """Return the groups of :func:`pack_groups`."""
    completions = [
        Completion(*columns)
        for columns in zip(
            unpack_ragged(packed["token_ids"]),
            packed["texts"],
            unpack_ragged(packed["logprobs"]),
            packed["truncated"],
            packed["versions"],
            [None if mask is None else torch.as_tensor(mask).numpy() for mask in packed["masks"]],
            strict=True,
        )
    ]
    verdicts = [Verdict(*v) for v in packed["verdicts"]]
    edges = pairwise(accumulate(packed["sizes"], initial=0))
    return [
        Group(
            Problem(*problem),
            tuple(prompt.tolist()),
            tuple(completions[a:b]),
            tuple(verdicts[a:b]),
            tuple(rewards.tolist()),
        )
        for problem, prompt, rewards, (a, b) in zip(
            packed["problems"],
            unpack_ragged(packed["prompts"]),
            unpack_ragged(packed["rewards"]),
            edges,
            strict=True,
        )
    ]


def pack_rollout(rollout: Rollout) -> Packed:
    """Return a rollout with its metrics."""
    return {
        "groups": pack_groups(rollout.groups),
        "policy_version": rollout.policy_version,
        "metrics": dict(rollout.metrics),
    }


def unpack_rollout(packed: Packed) -> Rollout:
    """Return the rollout of :func:`pack_rollout`."""
    groups = tuple(unpack_groups(packed["groups"]))
    return Rollout(groups, packed["policy_version"], packed["metrics"])


def pack_batch(batch: OptimizerBatch) -> Packed:
    """Layout, token weights, signal and old log-probabilities, on the CPU."""
    micro = []
    for given in batch.micro_batches:
        # The places are made again from the masks.
        names = [f.name for f in fields(given) if f.name not in ("signal", "places")]
        values = {name: getattr(given, name) for name in names}
        made: Packed = {k: v.cpu() for k, v in values.items() if v is not None}
        made["signal"] = {k: v.cpu() for k, v in given.signal.items()}
        micro.append(made)
    return {"micro": micro, "step": batch.step_in_epoch, "policy_version": batch.policy_version}


def unpack_batch(packed: Packed) -> OptimizerBatch:
    """Return the batch of :func:`pack_batch`, on the CPU."""
    micro = [TokenBatch(**given) for given in packed["micro"]]
    return OptimizerBatch(micro, packed["step"], packed["policy_version"])
