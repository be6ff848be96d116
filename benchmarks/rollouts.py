"""Tokens per second of the engines against what they are built on, on the same prompts.

    python benchmarks/rollouts.py --out benchmarks/results/rollouts
    python benchmarks/rollouts.py --model smollm2_shape --problems 16 --completions 4 --repeats 3 \\
        --out benchmarks/results/rollouts_135m

``rollout=hf`` against transformers' ``generate``, ``rollout=vllm`` against ``LLM.generate``; where
vLLM is not installed its rows are left out. Each engine family runs in a process of its own, its two
sides in turn, one thread. Lengths are not fixed: they are what the policy writes. ``smollm2_shape`` is
SmolLM2-135M's shape with random weights, whose completions end by chance. Writes ``results.json`` and
``results.md``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import ONE_THREAD, machine, python

Count = Callable[[], int]
SHAPE, MEAN_TOKENS = "smollm2_shape", 20


def random_policy() -> Any:
    """SmolLM2-135M's shape with random weights and the tiny policy's tokenizer.

    Random logits would never end a completion. All embeddings therefore share a direction, which the
    last hidden state keeps, and the end-of-sequence token has more of it: its probability is about
    1 / MEAN_TOKENS everywhere, so lengths vary as those of a real policy do.
    """
    import math

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from nft_lightning.policy.loading import TinyModel, finish

    tokenizer = TinyModel().load(1.0).tokenizer
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    shared = torch.nn.functional.normalize(torch.randn(config.hidden_size), dim=0)
    with torch.no_grad():
        embedding = model.get_input_embeddings().weight
        embedding += 2.0 * shared
        hidden = model.model(torch.randint(5, 60, (4, 32))).last_hidden_state @ shared
        wanted = math.log(config.vocab_size / MEAN_TOKENS)
        embedding[tokenizer.eos_token_id] += wanted / hidden.mean() * shared
    return finish(model, tokenizer, 1.0)


def workload(model: str, problems: int) -> tuple[Any, list[tuple[int, ...]]]:
    """A policy and the prompts of arithmetic problems."""
    from nft_lightning.policy.loading import HFModel, TinyModel
    from nft_lightning.problems.arithmetic import ArithmeticProblems
    from nft_lightning.problems.prompts import prompt_ids

    if model == SHAPE:
        policy = random_policy()
    else:
        policy = (TinyModel(model) if model.startswith("tiny") else HFModel(model)).load(1.0)
    source = ArithmeticProblems()
    texts = [source.problem(i, 0).text for i in range(problems)]
    return policy, [prompt_ids(policy.tokenizer, text, "equals") for text in texts]


def hf_sides(given: argparse.Namespace) -> dict[str, Count]:
    """Our sampler, and transformers' own on one left-padded batch."""
    import torch

    from nft_lightning.engines.hf.engine import HFEngine
    from nft_lightning.types import Sampling

    torch.set_num_threads(1)
    policy, prompts = workload(given.model, given.problems)
    engine = HFEngine(policy.model, policy.tokenizer)
    seeds = [[i * given.completions + k for k in range(given.completions)] for i in range(len(prompts))]
    width, pad = max(map(len, prompts)), policy.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts])
    attention = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])

    def ours() -> int:
        groups = engine.generate(prompts, Sampling(1.0, given.max_new_tokens), seeds)
        return sum(len(c.token_ids) for g in groups for c in g)

    @torch.no_grad()
    def plain() -> int:
        out = policy.model.generate(
            ids,
            attention_mask=attention,
            do_sample=True,
            top_k=0,
            max_new_tokens=given.max_new_tokens,
            num_return_sequences=given.completions,
            pad_token_id=pad,
            eos_token_id=policy.tokenizer.eos_token_id,
        )[:, width:]
        return int((out != pad).sum())

    return {"rollout=hf": ours, "transformers generate": plain}


def vllm_sides(given: argparse.Namespace) -> dict[str, Count]:
    """Our engine with its completions, and the ``LLM`` inside it alone."""
    from nft_lightning.engines.vllm.engine import VLLMEngineConfig
    from nft_lightning.engines.weight_sync import full_tensors
    from nft_lightning.types import Sampling

    policy, prompts = workload(given.model, given.problems)
    engine = VLLMEngineConfig().build(policy.model, policy.tokenizer)
    engine.load_weights(full_tensors(policy.model), 0)
    from vllm import SamplingParams

    seeds = [[i] * given.completions for i in range(len(prompts))]
    parameters = [
        SamplingParams(
            n=given.completions,
            seed=i,
            temperature=1.0,
            max_tokens=given.max_new_tokens,
            logprobs=0,
            detokenize=False,
            stop_token_ids=[policy.tokenizer.eos_token_id],
        )
        for i in range(len(prompts))
    ]

    def ours() -> int:
        groups = engine.generate(prompts, Sampling(1.0, given.max_new_tokens), seeds)
        return sum(len(c.token_ids) for g in groups for c in g)

    def plain() -> int:
        requests = [{"prompt_token_ids": list(p)} for p in prompts]
        outputs = engine.llm.generate(requests, parameters, use_tqdm=False)
        return sum(len(o.token_ids) for output in outputs for o in output.outputs)

    return {"rollout=vllm": ours, "vLLM generate": plain}


SIDES = {"hf": hf_sides, "vllm": vllm_sides}


def measure(given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Both sides in turn; the median of tokens a second, and of the ratio pair by pair.

    The ratio is also given by the processor's seconds, which what else the machine does changes little.
    """
    sides = SIDES[given.engine](given)
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    cpu_speeds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(given.repeats + 1):
        for name, run in sides.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            tokens = run()
            if repeat:  # the first turn warms up
                speeds[name].append(tokens / (time.perf_counter() - started))
                cpu_speeds[name].append(tokens / (time.process_time() - cpu_started))
    ratio, cpu_ratio = (
        statistics.median(a / b for a, b in zip(*found.values(), strict=True))
        for found in (speeds, cpu_speeds)
    )
    ratios = {"ratio_to_plain": ratio, "cpu_ratio_to_plain": cpu_ratio}
    return {
        name: {"tokens_per_second": statistics.median(found), **ratios} for name, found in speeds.items()
    }


def table(results: dict[str, dict[str, float]], given: argparse.Namespace) -> str:
    """Markdown, a row an engine."""
    lines = ["| what writes | tokens a second | against the plain one | by processor seconds |"]
    lines.append("|---|---|---|---|")
    for name, found in results.items():
        shown = [f"{found[key]:.2f}" for key in ("ratio_to_plain", "cpu_ratio_to_plain")]
        ratios = " | ".join(shown if name.startswith("rollout=") else ["", ""])
        lines.append(f"| {name} | {found['tokens_per_second']:,.0f} | {ratios} |")
    made_on = machine(python())
    lines += [
        "",
        f"`{Path(given.model).name}`, {given.problems} problems x {given.completions} completions",
    ]
    lines[-1] += f" of at most {given.max_new_tokens} tokens; medians of {given.repeats}; {made_on}."
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure each family in its own process, or one family here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument(
        "--model", default="tiny", help="tiny, tiny_unsure, smollm2_shape or a model directory"
    )
    parser.add_argument("--problems", type=int, default=64)
    parser.add_argument("--completions", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--engine", choices=sorted(SIDES), help="measure this one here, as JSON")
    given = parser.parse_args()
    if given.engine:
        print(json.dumps(measure(given)))
        return
    engines = ["hf"] + (["vllm"] if importlib.util.find_spec("vllm") else [])
    results: dict[str, dict[str, float]] = {}
    environment = {**os.environ, **ONE_THREAD}
    for engine in engines:
        command = [sys.executable, __file__, *sys.argv[1:], "--engine", engine]
        said = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
        results |= json.loads(said.stdout.strip().splitlines()[-1])
    text = table(results, given)
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        (given.out / "results.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
