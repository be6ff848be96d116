"""Memory of a forward and backward pass, by running it on tensors without data."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nft_lightning.errors import UserError, first_line
from nft_lightning.planning.architecture import architecture, skeleton
from nft_lightning.policy.logprobs import TOKENS, Head, fused_logprobs

# Layers are alike, so two depths give the cost of one; deeper models are extrapolated.
DEPTHS = (2, 4)
# Tiles are alike, too.
FUSED_TOKENS = (TOKENS, 2 * TOKENS)


@dataclass(frozen=True)
class Pass:
    """One micro-batch: what decides its memory.

    Attributes:
        model: name of the architecture; rows, width: its padded shape in tokens.
        prompt: tokens of each row without a log-probability.
        dtype: of parameters and of what is computed outside autocast.
        autocast: the type that products are computed in, or None.
        checkpointing: layers keep only their input and are computed again.
        fused: log-probabilities in tiles; else by way of the logits.
        lora_rank: adapters on every linear layer of a frozen model; 0 trains all of it.
        gradient: forward and backward; else a forward pass without gradient.
    """

    model: str
    rows: int
    width: int
    prompt: int
    dtype: torch.dtype = torch.float32
    autocast: torch.dtype | None = None
    checkpointing: bool = False
    fused: bool = True
    lora_rank: int = 0
    gradient: bool = True

    @property
    def skipped(self) -> int:
        """Positions of a row that have no log-probability."""
        return min(max(self.prompt, 1), self.width - 1)


@dataclass(frozen=True)
class Cost:
    """Bytes beside parameters and their accumulated gradients.

    Attributes:
        kept: what the decoder's forward pass leaves for the backward pass.
        body: its peak, with what a layer needs in passing.
        head: the peak of the way from the last hidden states to log-probabilities and back.
    """

    kept: float
    body: float
    head: float

    @property
    def activations(self) -> float:
        """Return the decoder's share at the peak."""
        return self.body if self.body >= self.kept + self.head else self.kept

    @property
    def logits(self) -> float:
        """Return the head's share at the peak: nothing where a layer's backward pass needs more."""
        return max(self.body, self.kept + self.head) - self.activations


class Tracker(TorchDispatchMode):
    """Bytes of the storages that operations make, as long as they live."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.seen = {self.storage(t): None for t in known}
        self.kept = [t.untyped_storage() for t in known]

    @staticmethod
    def storage(tensor: Tensor) -> int:
        """Return what distinguishes storages: the address of the storage object."""
        return tensor.untyped_storage()._cdata

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and self.storage(tensor) not in self.seen:
                self.add(tensor)
        return out

    def add(self, tensor: Tensor) -> None:
        """Count a new storage until it dies."""
        key, storage = self.storage(tensor), tensor.untyped_storage()
        size = storage.nbytes()
        self.seen[key] = None
        self.live += size
        self.peak = max(self.peak, self.live)

        def gone() -> None:
            self.live -= size
            self.seen.pop(key, None)

        weakref.finalize(storage, gone)


class Adapter(nn.Module):
    """A frozen linear layer and its low-rank sum, as peft computes it."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.inner = nn.Linear(base.in_features, rank, bias=False)
        self.outer = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Base plus scaled product."""
        low = self.outer(self.inner(hidden.to(self.inner.weight.dtype)))
        result: Tensor = self.base(hidden) + low * 2.0
        return result


def adapt(model: nn.Module, rank: int) -> None:
    """Freeze ``model`` and put adapters around its decoder's linear layers."""
    model.requires_grad_(False)
    decoder: Any = model.get_decoder()  # type: ignore[operator]
    for parent in list(decoder.layers.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, Adapter(child, rank))


def cost(given: Pass) -> Cost:
    """Return the pass at full depth.

    Raises:
        UserError: an architecture that does not run without data.
    """
    layers = architecture(given.model).layers
    try:
        decoder = replace(given, prompt=0, fused=True)
        kept, body = linear(lambda depth: body_bytes(decoder, depth), layers, DEPTHS)
        tokens = given.rows * (given.width - given.skipped)
        bounds = FUSED_TOKENS if given.fused else (tokens, tokens)
        alone = replace(given, rows=0, width=0, prompt=0, checkpointing=False)
        (head,) = linear(lambda count: (head_bytes(alone, count),), tokens, bounds)
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        reason = first_line(error)
        raise UserError(
            "model.path",
            given.model,
            f"cannot be planned ({reason})",
            "plan a dense decoder such as Qwen2",
        ) from error
    return Cost(kept, body, head)


def linear(
    measure: Callable[[int], tuple[int, ...]], size: int, bounds: tuple[int, int]
) -> tuple[float, ...]:
    """``measure(size)``, from two smaller sizes where it is beyond ``bounds``."""
    low, high = bounds
    if size <= high:
        return tuple(map(float, measure(size)))
    slope = (size - low) / (high - low)
    return tuple(a + (b - a) * slope for a, b in zip(measure(low), measure(high), strict=True))


def precision(given: Pass) -> AbstractContextManager[Any]:
    """As Lightning's mixed precision: no cast is kept for the next use."""
    if given.autocast is None:
        return nullcontext()
    return torch.autocast("cpu", given.autocast, cache_enabled=False)


@lru_cache(maxsize=256)
def body_bytes(given: Pass, layers: int) -> tuple[int, int]:
    """Kept and peak bytes of ``layers`` decoder layers; gradients are there before the pass begins."""
    with FakeTensorMode(), torch.set_grad_enabled(given.gradient):
        model = skeleton(architecture(given.model).config, layers, torch.device("cpu"), given.dtype)
        if given.lora_rank:
            adapt(model, given.lora_rank)
        if given.checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            if given.lora_rank:
                model.enable_input_require_grads()
        model.train(given.gradient)
        ids = torch.zeros(given.rows, given.width, dtype=torch.long)
        known = [ids, *model.buffers(), *with_gradients(model.parameters(), given)]
        with Tracker(known) as tracker:
            with precision(given):
                last = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
            kept = tracker.live
            if given.gradient:
                last.backward(torch.zeros_like(last))
    return kept, tracker.peak


@lru_cache(maxsize=256)
def head_bytes(given: Pass, tokens: int) -> int:
    """Peak bytes from ``tokens`` last hidden states to log-probabilities and back."""
    config = architecture(given.model).config
    with FakeTensorMode(), torch.set_grad_enabled(given.gradient):
        weight = torch.zeros(config.vocab_size, config.hidden_size, dtype=given.dtype)
        weight.requires_grad_(given.gradient and not given.lora_rank)
        hidden = torch.zeros(tokens, config.hidden_size, dtype=given.dtype).requires_grad_(
            given.gradient
        )
        targets = torch.zeros(tokens, dtype=torch.long)
        with Tracker([hidden, targets, *with_gradients([weight], given)]) as tracker:
            with precision(given):
                chosen = logprobs(hidden, weight, targets, given.fused)
            if given.gradient:
                chosen.sum().backward()
    return tracker.peak


def with_gradients(parameters: Iterable[Tensor], given: Pass) -> list[Tensor]:
    """Parameters, and the gradients that earlier micro-batches left."""
    found = list(parameters)
    for parameter in found:
        if given.gradient and parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    return found + [p.grad for p in found if p.grad is not None]


def logprobs(hidden: Tensor, weight: Tensor, targets: Tensor, fused: bool) -> Tensor:
    """As the policy computes them, the entropy without gradient beside them."""
    if fused:
        return fused_logprobs(hidden, weight, None, targets, Head())[0]
    logits = nn.functional.linear(hidden, weight).float() / 1.0
    normalizer = logits.logsumexp(-1)
    chosen = logits.gather(-1, targets[:, None])[:, 0] - normalizer
    with torch.no_grad():
        spread = normalizer - (logits.softmax(-1) * logits).sum(-1)
    return chosen + spread * 0
