"""Every algorithm of conf/algorithm, and one way to call them all."""

from __future__ import annotations

import torch

from nft_lightning.app.build import build, option, options_of

FAMILY = {name: build(option("algorithm", name), "algorithm") for name in options_of("algorithm")}


def extras(objective, logprobs, value=0.0):
    """The [B, T] tensors that the objective asks for."""
    needs, found = objective.needed_inputs, {}
    if needs.values:
        found["values"] = torch.full_like(logprobs.detach(), value).requires_grad_()
        found["old_values"] = found["values"].detach()
    if needs.reference_logprobs:
        found["reference_logprobs"] = logprobs.detach() - 0.1
    if needs.engine_logprobs:
        found["engine_logprobs"] = logprobs.detach() + 0.1
    if needs.entropy:
        found["entropy"] = -logprobs
    return found


def evaluate(objective, logprobs, old, mask, rewards, ids, value=0.0, **more):
    return objective(logprobs, old, mask, rewards, ids, **{**extras(objective, logprobs, value), **more})
