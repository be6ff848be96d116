"""What our training step costs beside a bare loop on the same unpadded tokens.

    python benchmarks/training_phase.py --out benchmarks/results/training_phase

One run of the embedded default with one thread. After each epoch, in the same process, a bare loop does
the same number of forward and backward passes over as many tokens, without padding, and the same
optimizer steps: ``model(ids)``, cross-entropy of the next token, ``backward``, clipping, AdamW. Ours
does that for the answers' tokens alone, with padding, old log-probabilities read from the batch, the
objective, its metrics, and Lightning around it. The first epoch warms up. Writes ``results.json`` and
``results.md``.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import lightning as L
import torch
from hydra import compose, initialize_config_dir
from measuring import machine, save

from nft_lightning.app import run as running
from nft_lightning.app.build import CONF_DIR

Passes = list[list[torch.Tensor]]


class Beside(L.Callback):
    """Times our updates, and after each epoch the bare loop's on as many tokens."""

    def __init__(self) -> None:
        self.started = self.ours = 0.0
        self.passes: Passes = []
        self.pairs: list[tuple[float, float, int]] = []
        self.padding: list[float] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        passes = []
        for micro in batch.micro_batches:
            rows, tokens = len(micro.input_ids), int(micro.attention_mask.sum())
            passes.append(micro.input_ids.new_ones(rows, round(tokens / rows)))
            self.padding.append(1 - tokens / micro.attention_mask.numel())
        self.passes.append(passes)
        self.started = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        self.ours += time.perf_counter() - self.started

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        bare = bare_loop(copy.deepcopy(module.policy.model), self.passes)
        tokens = sum(ids.numel() for passes in self.passes for ids in passes)
        self.pairs.append((self.ours, bare, tokens))
        self.ours, self.passes = 0.0, []


def bare_loop(model: Any, updates: Passes) -> float:
    """Seconds of plain next-token training, the model's copy and a first pass apart."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-6, betas=(0.9, 0.95), weight_decay=0.0)
    with torch.random.fork_rng():
        drawn = [
            [torch.randint(4, model.config.vocab_size, p.shape) for p in passes] for passes in updates
        ]
    started = time.perf_counter()
    for passes in drawn:
        for ids in passes:
            logits = model(input_ids=ids, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("overrides", nargs="*", help="for nft-train")
    args = parser.parse_args()
    beside = Beside()
    build = running.build_trainer

    def with_beside(*given: Any) -> L.Trainer:
        trainer = build(*given)
        trainer.callbacks.append(beside)  # type: ignore[attr-defined]
        return trainer

    running.build_trainer = with_beside
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONF_DIR.resolve())):
        overrides = [f"run_dir={folder}/run", f"trainer.max_epochs={args.epochs}", "callbacks=none"]
        overrides += [
            "logger=csv",
            "evaluation.problems=1",
            f"evaluation.every_epochs={args.epochs + 1}",
        ]
        running.run(compose("train", [*overrides, *args.overrides]))
    pairs = beside.pairs[1:]
    ratios = [ours / bare for ours, bare, _ in pairs]
    made_on = machine("one thread")
    found = {
        "machine": made_on,
        "ratio_median": statistics.median(ratios),
        "ratios": ratios,
        "tokens_per_second": [sum(p[2] for p in pairs) / sum(p[i] for p in pairs) for i in (0, 1)],
        "padding_fraction": statistics.mean(beside.padding),
    }
    ours, bare = found["tokens_per_second"]
    text = (
        f"{made_on}; {len(pairs)} epochs of the embedded default, NFT\n\n"
        "| training step | tokens per second | time, to the bare loop's |\n|---|---|---|\n"
        f"| bare loop, no padding | {bare:.0f} | 1 |\n"
        f"| nft_lightning, {found['padding_fraction']:.1%} padding | {ours:.0f} | "
        f"{found['ratio_median']:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |\n"
    )
    save(args.out, text, found)


if __name__ == "__main__":
    main()
