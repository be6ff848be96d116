"""Log-probabilities and entropies from hidden states, without the logits of all tokens at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TOKENS = 1024
VOCABULARY = 8192


@dataclass(frozen=True)
class Head:
    """How logits become a distribution: softcapped by tanh or not, divided by ``temperature``."""

    temperature: float = 1.0
    softcap: float | None = None

    def scaled(self, raw: Tensor) -> Tensor:
        """Return the scaled logits; ``raw`` is overwritten."""
        if self.softcap:
            raw = raw.div_(self.softcap).tanh_().mul_(self.softcap)
        return raw if self.temperature == 1 else raw.div_(self.temperature)

    def slope(self, scaled: Tensor) -> Tensor | float:
        """d scaled / d raw, at the scaled logits."""
        if not self.softcap:
            return 1 / self.temperature
        tanh = scaled * (self.temperature / self.softcap)
        return tanh.square_().neg_().add_(1).div_(self.temperature)


def fused_logprobs(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, head: Head
) -> tuple[Tensor, Tensor]:
    """Return log-probability of each target and entropy, both [N] in fp32 or wider, with gradients.

    Args:
        hidden: [N, H]; weight: [V, H]; bias: [V] or None; targets: [N] int64.
        head: temperature and softcapping.
    """
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        half = torch.get_autocast_dtype(kind)
        hidden, weight = hidden.to(half), weight.to(half)
    with torch.autocast(kind, enabled=False):
        found: tuple[Tensor, Tensor] = FusedLogProbs.apply(hidden, weight, bias, targets, head)
    return found


class FusedLogProbs(torch.autograd.Function):
    """Tiles of ``TOKENS`` by ``VOCABULARY`` logits, made again in the backward pass.

    The normaliser is a running log-sum-exp over the tiles of a token. All sums are in fp32 or wider;
    factors in half precision are multiplied as they are (see :func:`product`).
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, head: Head
    ) -> tuple[Tensor, Tensor]:
        """See :func:`fused_logprobs`."""
        ctx.set_materialize_grads(False)
        wide = torch.promote_types(hidden.dtype, torch.float32)
        chosen, normalizer, mean, entropy = (hidden.new_zeros(len(hidden), dtype=wide) for _ in range(4))
        for rows in slices(len(hidden), TOKENS):
            top = hidden.new_full((rows.stop - rows.start,), torch.finfo(wide).min, dtype=wide)
            total, moment = torch.zeros_like(top), torch.zeros_like(top)
            for words in slices(len(weight), VOCABULARY):
                logits = head.scaled(raw_logits(hidden[rows], weight, bias, words))
                found, inside = local(targets[rows], words)
                value = logits.gather(1, found[:, None])[:, 0]
                chosen[rows] = torch.where(inside, value, chosen[rows])
                new = torch.maximum(top, logits.amax(1))
                # Sums are kept relative to the largest logit so far, or the entropy would cancel.
                shrink, apart = (top - new).exp(), logits.sub_(new[:, None])
                weights = apart.exp()
                products = torch.bmm(weights[:, None], apart[:, :, None])[:, 0, 0]
                moment = shrink * (moment + total * (top - new)) + products
                total = total * shrink + weights.sum(1)
                top = new
            chosen[rows] -= top
            chosen[rows] -= total.log()
            normalizer[rows], mean[rows] = top + total.log(), top + moment / total
            entropy[rows] = total.log() - moment / total
        ctx.save_for_backward(hidden, weight, bias, targets, normalizer, mean)
        ctx.head = head
        return chosen, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """See :meth:`gradients`; a backward pass within autocast must not make the logits narrower."""
        with torch.autocast(ctx.saved_tensors[0].device.type, enabled=False):
            return FusedLogProbs.gradients(ctx, *gradients)

    @staticmethod
    def gradients(ctx: Any, *gradients: Any) -> Any:
        """d logprob / d logit = [target] - p; d entropy / d logit = -p (logit - mean logit)."""
        hidden, weight, bias, targets, normalizer, mean = ctx.saved_tensors
        by_logprob, by_entropy = gradients
        if by_logprob is None:
            by_logprob = torch.zeros_like(normalizer)
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        of_hidden = torch.zeros_like(hidden, dtype=normalizer.dtype) if needs_hidden else None
        of_weight = torch.zeros_like(weight, dtype=normalizer.dtype) if needs_weight else None
        of_bias = torch.zeros_like(bias, dtype=normalizer.dtype) if needs_bias else None
        for rows in slices(len(hidden), TOKENS):
            for words in slices(len(weight), VOCABULARY):
                logits = ctx.head.scaled(raw_logits(hidden[rows], weight, bias, words))
                slope = ctx.head.slope(logits)
                factor = by_logprob[rows, None]
                if by_entropy is not None:
                    factor = (logits - mean[rows, None]).mul_(by_entropy[rows, None]).add_(factor)
                gradient = logits.sub_(normalizer[rows, None]).exp_().mul_(-factor)
                found, inside = local(targets[rows], words)
                gradient.scatter_add_(1, found[:, None], (by_logprob[rows] * inside)[:, None])
                if not (isinstance(slope, float) and slope == 1):
                    gradient.mul_(slope)
                if of_bias is not None:
                    of_bias[words] += gradient.sum(0)
                gradient = gradient.to(hidden.dtype)
                if of_hidden is not None:
                    add_product(of_hidden[rows], gradient, weight[words])
                if of_weight is not None:
                    add_product(of_weight[words], gradient.T, hidden[rows])
        made = ((of_hidden, hidden), (of_weight, weight), (of_bias, bias))
        return *(None if g is None else g.to(like.dtype) for g, like in made), None, None


def raw_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, words: slice) -> Tensor:
    """Return [n, words] logits, summed in fp32 or wider."""
    logits = product(hidden, weight[words].T)
    return logits if bias is None else logits.add_(bias[words])


def product(one: Tensor, other: Tensor) -> Tensor:
    """Return ``one @ other``, summed in fp32 or wider.

    NVIDIA's GPUs multiply factors in half precision as they are. Other devices have no such product:
    they multiply the same numbers in fp32, which gives the same sums up to rounding.
    """
    if multiplied_as_they_are(one, other):
        return torch.mm(one, other, out_dtype=torch.float32)
    wide = torch.promote_types(torch.promote_types(one.dtype, other.dtype), torch.float32)
    return one.to(wide) @ other.to(wide)


def add_product(total: Tensor, one: Tensor, other: Tensor) -> None:
    """Add ``one @ other`` to ``total``, which is in fp32 or wider; see :func:`product`."""
    if multiplied_as_they_are(one, other):
        total.add_(torch.mm(one, other, out_dtype=torch.float32))
    else:
        total.addmm_(one.to(total.dtype), other.to(total.dtype))


def multiplied_as_they_are(one: Tensor, other: Tensor) -> bool:
    """Return whether the device multiplies these factors in half precision, with sums in fp32."""
    half = one.dtype in (torch.float16, torch.bfloat16)
    return half and one.dtype == other.dtype and one.device.type == "cuda"


def local(targets: Tensor, words: slice) -> tuple[Tensor, Tensor]:
    """Targets as columns of a tile, and which of them are in it; the others point to a valid column."""
    inside = (targets >= words.start) & (targets < words.stop)
    return torch.where(inside, targets - words.start, 0), inside


def slices(count: int, size: int) -> Iterator[slice]:
    """0 to ``count`` in steps of ``size``."""
    return (slice(i, min(i + size, count)) for i in range(0, count, size))
