"""Check, after every weight sync, that the engine holds the trainer's current policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nft_lightning.batching.layout import Row, token_batch
from nft_lightning.common.bounds import bounded, check_bounds
from nft_lightning.engines.base import Engine, Prompt, SyncError, completion_seed
from nft_lightning.policy.policy import Policy
from nft_lightning.types import Numbers, Sampling, Signal

# Largest gap of a token's log-probability between two right implementations of one policy.
BOUNDS: dict[torch.dtype | None, float] = {torch.float32: 1e-2, torch.bfloat16: 0.5, torch.float16: 0.2}


@dataclass(frozen=True)
class SyncCheck:
    """The engine writes a few tokens; the trainer must give them the same log-probabilities.

    Attributes:
        prompts: how many probe prompts; 0 turns the check off.
        new_tokens: what the engine writes for each.
        prompt_tokens: probe prompts are joined to at least this length, so that they span whole
            blocks of a prefix cache and a stale cache shows.
        max_logprob_gap: the largest difference allowed; None is by the precision in use, the coarser
            of trainer and engine: 0.01 in fp32, 0.2 in fp16 and 0.5 in bf16.
    """

    prompts: int = bounded(2, least=0, use="2, or 0 for off")
    new_tokens: int = bounded(8, least=1)
    prompt_tokens: int = bounded(72, least=1)
    max_logprob_gap: float | None = bounded(None, above=0, use="0.01")

    def __post_init__(self) -> None:
        check_bounds(self, "rollout.sync_check")

    def probe(self, prompts: Sequence[Prompt], context_tokens: int | None) -> list[Prompt]:
        """Return fixed prompts made of ``prompts``, each long enough where the context allows it."""
        joined = [token for prompt in prompts for token in prompt]
        room = self.prompt_tokens
        if context_tokens is not None:
            room = max(1, min(room, context_tokens - self.new_tokens))
        found = []
        for i in range(min(self.prompts, len(prompts))):
            start = [token for prompt in prompts[i:] for token in prompt] + joined
            repeated = start * (room // len(start) + 1)
            found.append(tuple(repeated[:room]))
        return found

    @torch.no_grad()
    def check(self, engine: Engine, policy: Policy, probe: Sequence[Prompt], version: int) -> float:
        """Return the largest gap of any token.

        Raises:
            SyncError: the engine says another version, or its log-probabilities are too far off.
        """
        if engine.policy_version != version:
            raise SyncError(
                f"after weight sync {version} the engine says it holds version {engine.policy_version}"
            )
        gap = max(self.gap(one, policy, probe) for one in engine.replicas())
        bound = self.max_logprob_gap or bound_of(engine, policy)
        if gap > bound:
            raise SyncError(
                f"the engine does not hold policy version {version}: after the weight sync, "
                f"log-probabilities of the probe differ by {gap:.3g} where {bound:g} is allowed "
                "(rollout.sync_check.max_logprob_gap)"
            )
        return gap

    def gap(self, engine: Engine, policy: Policy, probe: Sequence[Prompt]) -> float:
        """Return the largest gap of any token that ``engine`` writes; infinite where one is not a
        number.
        """
        sampling = Sampling(policy.temperature, self.new_tokens)
        seeds = [[completion_seed(0, "probe", 0, i, 0)] for i in range(len(probe))]
        groups = engine.generate(probe, sampling, seeds)
        rows = [
            Row(prompt, completion, 1.0, i, i)
            for i, (prompt, (completion,)) in enumerate(zip(probe, groups, strict=True))
        ]
        batch = token_batch(rows, Signal({}, torch.ones(len(rows))), policy.tokenizer.pad_token_id)
        batch = batch.to(next(policy.parameters()).device)
        gaps = (policy(batch).logprobs - batch.engine_logprobs)[batch.mask].abs()
        return float(gaps.max()) if bool(torch.isfinite(gaps).all()) else float("inf")


def bound_of(engine: Engine, policy: Policy) -> float:
    """Return what rounding explains: the trainer's, and the engine's where it has a type of its own."""
    return max(BOUNDS[computed_in(policy)], BOUNDS.get(engine.dtype, 0.0))


def computed_in(policy: Policy) -> torch.dtype:
    """Return the type of the forward passes that are going on: autocast's, 4-bit layers' or the
    weights'.
    """
    parameter = next(policy.parameters())
    if torch.is_autocast_enabled(parameter.device.type):
        return torch.get_autocast_dtype(parameter.device.type)
    for module in policy.modules():
        computed = getattr(module, "compute_dtype", None)
        if isinstance(computed, torch.dtype) and computed in BOUNDS:
            return computed
    return parameter.dtype if parameter.dtype in BOUNDS else torch.float32


def numbers_of(policy: Policy, precision: Any) -> Numbers:
    """Return what ``policy`` computes in under Lightning's plugin ``precision``."""
    with precision.forward_context():
        return Numbers(computed_in(policy), policy.fused is not None)
