"""Log-probabilities with gradients, by way of the logits and in tiles: time and peak memory.

python benchmarks/logprobs.py [--tokens 4096] [--rounds 3]

Each way runs in processes of its own, one after the other in turn; memory is the peak of the process
over what it held before the first pass.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time

import torch
from measuring import in_turn

from nft_lightning.policy.logprobs import Head, fused_logprobs

VOCABULARY, HIDDEN = 151_936, 896


def plain(hidden, weight, targets):
    """As ``policy.logprobs=plain``: the entropy without a gradient."""
    logits = (hidden @ weight.T).float() / 1.0
    normalizer = logits.logsumexp(-1)
    chosen = logits.gather(-1, targets[:, None])[:, 0] - normalizer
    with torch.no_grad():
        entropy = normalizer - (logits.softmax(-1) * logits).sum(-1)
    return chosen, entropy


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(way: str, tokens: int) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(tokens, HIDDEN).requires_grad_()
    weight = torch.randn(VOCABULARY, HIDDEN).div_(HIDDEN**0.5).requires_grad_()
    targets = torch.randint(0, VOCABULARY, (tokens,))
    before, started = peak(), time.perf_counter()
    if way == "plain":
        logprobs, _ = plain(hidden, weight, targets)
    else:
        logprobs, entropy = fused_logprobs(hidden, weight, None, targets, Head())
        entropy.detach_()
    logprobs.sum().backward()
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "bytes": peak() - before}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way")
    given = parser.parse_args()
    if given.way:
        measure(given.way, given.tokens)
        return
    found = in_turn(__file__, ["plain", "fused"], given.tokens, given.rounds)
    print(f"V {VOCABULARY}, H {HIDDEN}, {given.tokens} tokens, fp32, threads {torch.get_num_threads()}")
    medians = {
        way: {k: statistics.median(r[k] for r in results) for k in ("seconds", "bytes")}
        for way, results in found.items()
    }
    for way, row in medians.items():
        print(f"{way}: {row['seconds']:.2f} s, peak {row['bytes'] / 2**20:.0f} MiB")
    ratio = {k: medians["fused"][k] / medians["plain"][k] for k in ("seconds", "bytes")}
    print(f"fused / plain: time {ratio['seconds']:.2f}, memory 1/{1 / ratio['bytes']:.1f}")


if __name__ == "__main__":
    main()
