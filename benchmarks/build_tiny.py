"""Rebuild the tiny policies: ``python benchmarks/build_tiny.py tiny OUT``.

The corpus mixes two habits: answering at once (mostly wrong for so small a model) and working
step by step (mostly right). Training by right and wrong then has a habit to discover. Held-out
problems never occur in the corpus.
"""

from __future__ import annotations

import argparse
import logging
import math
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nft_lightning.problems.arithmetic import ArithmeticProblems, worked_answer

log = logging.getLogger(__name__)

PAD, BOS, EOS, UNKNOWN, BOX = "<pad>", "<bos>", "<eos>", "<unk>", "\\boxed{"


@dataclass(frozen=True)
class Stage:
    """``steps`` batches in which ``direct`` of the answers come at once, ``noisy`` of those off."""

    steps: int
    learning_rate: float
    direct: float
    noisy: float = 0.0


LEARN = (Stage(1500, 2e-3, 0.10),)
HABITS = (Stage(500, 2e-3, 0.75), Stage(150, 5e-4, 0.85, noisy=0.8))
RECIPES = {
    "tiny": LEARN + HABITS,
    "tiny_unsure": (Stage(600, 2e-3, 0.10), Stage(150, 1e-3, 0.75), Stage(150, 5e-4, 0.85, noisy=0.8)),
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each printable ASCII character and the newline, and one for ``\\boxed{``."""
    characters = ["\n"] + [chr(c) for c in range(32, 127)]
    vocabulary = {t: i for i, t in enumerate([PAD, BOS, EOS, UNKNOWN, BOX, *characters])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"\\boxed\{|[\s\S]"), behavior="isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama-shaped decoder of 0.8 M parameters; its model type has no tokenizer of its own."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def draw_example(problems: ArithmeticProblems, rng: random.Random, stage: Stage) -> tuple[str, str]:
    """A prompt and an answer in one of the two habits."""
    problem = problems.draw(rng, held_out=False)
    if rng.random() >= stage.direct:
        return f"{problem.text}=", worked_answer(problem.text)
    error = rng.choice((-1, 1)) * rng.randint(1, 6) if rng.random() < stage.noisy else 0
    return f"{problem.text}=", f"{BOX}{int(problem.answer) + error}}}"


def train_stage(model, tokenizer, stage: Stage, rng: random.Random, batch_size: int) -> None:  # type: ignore[no-untyped-def]
    """Ordinary next-token training on answers only, cosine schedule with a short warm-up."""
    problems = ArithmeticProblems()
    optimizer = torch.optim.AdamW(
        model.parameters(), stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    for step in range(stage.steps):
        warm = min(1.0, (step + 1) / 50)
        scale = warm * 0.5 * (1 + math.cos(math.pi * step / stage.steps))
        optimizer.param_groups[0]["lr"] = stage.learning_rate * scale
        examples = [draw_example(problems, rng, stage) for _ in range(batch_size)]
        rows = [
            (
                tokenizer.encode(p, add_special_tokens=False),
                tokenizer.encode(a, add_special_tokens=False),
            )
            for p, a in examples
        ]
        width = max(len(p) + len(a) for p, a in rows) + 1
        ids = torch.full((len(rows), width), tokenizer.pad_token_id)
        labels = torch.full((len(rows), width), -100)
        for i, (p, a) in enumerate(rows):
            line = torch.tensor([*p, *a, tokenizer.eos_token_id])
            ids[i, : len(line)] = line
            labels[i, len(p) : len(line)] = line[len(p) :]
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == stage.steps - 1:
            log.info("stage %s step %d loss %.4f", stage, step, loss.item())


def build(recipe: tuple[Stage, ...], out: Path, seed: int = 0, batch_size: int = 128) -> None:
    """Train from scratch and save in half precision, which halves the package."""
    torch.manual_seed(seed)
    rng = random.Random(f"corpus/{seed}")
    tokenizer = build_tokenizer()
    model = build_model(tokenizer)
    for stage in recipe:
        train_stage(model, tokenizer, stage, rng, batch_size)
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", choices=sorted(RECIPES))
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    build(RECIPES[arguments.recipe], arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
