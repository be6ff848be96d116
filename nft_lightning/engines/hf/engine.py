"""Completions from the trainer's own model, with a sampler that does no needless work."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from nft_lightning.common.bounds import bounded, check_bounds
from nft_lightning.distributed.preemption import at_once
from nft_lightning.engines.adapters import checkpoint_parameters, merged, packed
from nft_lightning.engines.base import Engine, EngineConfig, Prompt, SyncError, SyncReport
from nft_lightning.engines.ends import StopWatch, end_ids
from nft_lightning.engines.hf.rows import Starter
from nft_lightning.engines.weight_sync import Manifest
from nft_lightning.types import Completion, Sampling

# Finished rows leave once they are an eighth of the batch: leaving one by one copies more than it saves.
MOST_IN_FLIGHT = 7 / 8


@dataclass(frozen=True)
class HFEngineConfig(EngineConfig):
    """``rollout=hf``: the trainer's own parameters, or a copy in a process of its own.

    Attributes:
        max_rows: completions in flight at a time; fewer need less memory.
        process: ``trainer``, or ``own``, which writes while the trainer trains where
            ``rollout.max_staleness`` allows it.
        threads: of torch in the process of its own; None is as many as the trainer has.
    """

    max_rows: int = bounded(512, least=1, use="512")
    process: str = bounded("trainer", choices=("trainer", "own"))
    threads: int | None = bounded(None, least=1)
    # Sharded parameters are gathered into a whole copy for this engine only.
    uses_trainer_model: ClassVar[bool] = True
    planned_as: ClassVar[str | None] = "hf"

    def __post_init__(self) -> None:
        check_bounds(self, "rollout.engine")

    @property
    def copies_model(self) -> bool:
        """Return whether it is built over a whole copy of the policy."""
        return self.process == "own"

    def build(self, model: nn.Module, tokenizer: Any) -> Engine:
        """Return the engine over the trainer's model, or over a copy that is the engine's own."""
        if self.process == "trainer":
            return HFEngine(model, tokenizer, self.max_rows)
        from nft_lightning.engines.hf.own_process import OwnProcess

        threads = self.threads or torch.get_num_threads()
        return OwnProcess(model, tokenizer, self.max_rows, threads)


class HFEngine(Engine):
    """Samples from a transformers model in this process.

    It shares the trainer's parameters, so a sync copies nothing where the storage is the same.
    Prompts go in length order; each is prefilled once for its K completions; a finished row leaves
    the batch and its cache. Each token is the inverse of the cumulative distribution at one uniform
    number that its completion's seed drew ahead.

    Args:
        model: the module to sample from.
        tokenizer: gives the end-of-sequence id, beside those of the model's generation config.
        max_rows: completions in flight at a time, which bounds the cache.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, max_rows: int = 512) -> None:
        self.model, self.tokenizer, self.max_rows = model, tokenizer, max_rows
        self.starter = Starter(model)
        self.policy_version = -1
        self.ends = end_ids(model, tokenizer)

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> SyncReport:
        """Copy what is not shared; see :meth:`nft_lightning.engines.weight_sync.Manifest.checked`."""
        started = time.perf_counter()
        own = {name: (p, layer) for name, p, layer in checkpoint_parameters(self.model)}
        tally: dict[str, int] = {}
        copied = 0
        for name, tensor in Manifest.of(self.model).checked(named_tensors, version, tally):
            parameter, layer = own[name]
            if layer is not None or packed(parameter):
                # Its adapters are live in this model, which cannot take the sum; nor can four bits.
                if not torch.equal(merged(parameter, layer), tensor):
                    raise SyncError(f"weight sync {version}: {name!r} is not this model's own")
            elif parameter.data_ptr() != tensor.data_ptr():
                parameter.data.copy_(tensor)
                copied += tensor.nbytes
        self.policy_version = version
        return SyncReport(version, len(tally), copied, time.perf_counter() - started)

    def runs(self, model: nn.Module) -> bool:
        """Return whether ``model`` is the module that it samples from."""
        return model is self.model

    def replicas(self) -> list[HFEngine]:
        """Return one copy of the weights."""
        return [self]

    def sleep(self) -> None:
        """Nothing to give back: the weights are the trainer's own."""

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[Sequence[int]]
    ) -> list[list[Completion]]:
        """See :class:`nft_lightning.engines.base.Engine`."""
        if not prompts:
            return []
        was_training = self.model.training
        self.model.eval()
        per_batch = max(1, self.max_rows // max(len(s) for s in seeds))
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        results: list[list[Completion]] = [[] for _ in prompts]
        try:
            for start in range(0, len(order), per_batch):
                chosen = order[start : start + per_batch]
                with at_once(), weights_cast_once(next(self.model.parameters()).device.type):
                    rows = self.sample_batch(
                        [prompts[i] for i in chosen], sampling, [seeds[i] for i in chosen]
                    )
                for i, completions in zip(chosen, rows, strict=True):
                    results[i] = completions
        finally:
            self.model.train(was_training)
        return results

    def sample_batch(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[Sequence[int]]
    ) -> list[list[Completion]]:
        """Return completions of prompts that fit in memory together."""
        device = next(self.model.parameters()).device
        pad = self.tokenizer.pad_token_id
        ends = torch.tensor(sorted({*self.ends, *sampling.stop_token_ids}), device=device)
        owner = torch.tensor([i for i, s in enumerate(seeds) for _ in s], device=device)
        going_on = self.starter.rows(prompts, owner, pad)
        limit = sampling.max_new_tokens
        draws = torch.from_numpy(uniforms([s for group in seeds for s in group], limit)).to(device)

        watched = owner.tolist() if sampling.stop else []
        watches = [StopWatch(self.tokenizer, sampling.stop, prompts[i]) for i in watched]
        rows = len(owner)
        tokens = torch.full((rows, limit), pad, device=device)
        logprobs = torch.zeros((rows, limit), device=device)
        lengths = torch.full((rows,), limit, device=device)
        finished = torch.zeros(rows, dtype=torch.bool, device=device)
        active = torch.arange(rows, device=device)
        for step in range(limit):
            token, logprob = draw(going_on.logits.float(), sampling, draws[active, step])
            tokens[active, step], logprobs[active, step] = token, logprob
            ended = torch.isin(token, ends)
            if watches:
                ended |= stopped(watches, active, token, finished)
            ended &= ~finished[active]
            lengths[active[ended]], finished[active[ended]] = step + 1, True
            going = ~finished[active]
            left = int(going.sum())
            if step + 1 == limit or left == 0:
                break
            if left <= len(active) * MOST_IN_FLIGHT:
                going_on.keep(going)
                active, token = active[going], token[going]
            going_on.extend(token)
        return self.collect(seeds, tokens, logprobs, lengths, finished)

    def collect(
        self,
        seeds: Sequence[Sequence[int]],
        tokens: Tensor,
        logprobs: Tensor,
        lengths: Tensor,
        done: Tensor,
    ) -> list[list[Completion]]:
        """Return rows of tensors as completions, grouped by prompt."""
        all_ids, all_logprobs = tokens.numpy(force=True), logprobs.numpy(force=True)
        ends, complete = lengths.tolist(), done.tolist()
        ids = [row[:n] for row, n in zip(all_ids, ends, strict=True)]
        texts = self.tokenizer.batch_decode([i.tolist() for i in ids], skip_special_tokens=True)
        flat = iter(
            Completion(i, text, lp[:n], not ok, self.policy_version)
            for i, text, lp, n, ok in zip(ids, texts, all_logprobs, ends, complete, strict=True)
        )
        return [[next(flat) for _ in group] for group in seeds]


def stopped(watches: Sequence[StopWatch], active: Tensor, token: Tensor, finished: Tensor) -> Tensor:
    """Return [A] bool: which of the ``active`` [A] rows, not ``finished`` [B], end with ``token``
    [A].
    """
    over = finished[active].tolist()
    rows = zip(active.tolist(), token.tolist(), over, strict=True)
    found = [not done and watches[row].add(new) for row, new, done in rows]
    return torch.tensor(found, device=token.device)


@contextmanager
def weights_cast_once(device: str) -> Iterator[None]:
    """Inside, autocast keeps its casts of weights that train: Lightning's casts them at every token."""
    if not torch.is_autocast_enabled(device):
        yield
        return
    kept = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(True)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(kept)
        torch.clear_autocast_cache()


def uniforms(seeds: Sequence[int], count: int) -> np.ndarray[Any, Any]:
    """Return [len(seeds), count] fp32 numbers in [0, 1), each row from its own counter-based
    generator.
    """
    rows = [np.random.Generator(np.random.Philox(key=s)).random(count, dtype=np.float32) for s in seeds]
    return np.stack(rows)


def draw(logits: Tensor, sampling: Sampling, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Return one token per row from logits [B, V] and its log-probability under the sampled
    distribution.
    """
    if sampling.temperature == 0:
        token = logits.argmax(-1)
        return token, torch.zeros_like(uniform)
    logprobs = (logits / sampling.temperature).log_softmax(-1)
    if sampling.top_k or sampling.top_p < 1:
        logprobs = filtered(logprobs, sampling)
    cumulative = logprobs.exp().cumsum(-1)
    threshold = uniform[:, None] * cumulative[:, -1:]
    token = torch.searchsorted(cumulative, threshold, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    return token, logprobs.gather(-1, token[:, None])[:, 0]


def filtered(logprobs: Tensor, sampling: Sampling) -> Tensor:
    """Renormalised log-probabilities [B, V] of the top-k tokens and the top-p nucleus."""
    ordered, index = logprobs.sort(descending=True, dim=-1)
    keep = ordered.exp().cumsum(-1) - ordered.exp() < sampling.top_p
    if sampling.top_k:
        keep[:, sampling.top_k :] = False
    ordered = ordered.masked_fill(~keep, float("-inf"))
    return torch.empty_like(logprobs).scatter_(-1, index, ordered).log_softmax(-1)
