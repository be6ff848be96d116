"""TRL's side of benchmarks/against_trl.py, in TRL's own environment: ``PYTHON THIS job.json``.

The job names the model, the rendered prompts with their answers, and the settings. Writes
``result.json`` with the seconds of the loop and of its parts, and ``weights_NUMBER.pt`` after every
``keep_every`` rollouts.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


class TimedTrainer(GRPOTrainer):
    """Knows how long generation with its rewards took, and the pass for old log-probabilities."""

    generating = old_logprobs = 0.0
    tokens = completions = 0

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        before, started = self.old_logprobs, time.perf_counter()
        found = super()._generate_and_score_completions(inputs)
        inside = self.old_logprobs - before
        self.generating += time.perf_counter() - started - inside
        self.tokens += int(found["completion_mask"].sum())
        self.completions += len(found["completion_mask"])
        return found

    def _get_per_token_logps_and_entropies(self, *given: Any, **named: Any) -> Any:
        started = time.perf_counter()
        found = super()._get_per_token_logps_and_entropies(*given, **named)
        if not torch.is_grad_enabled():
            self.old_logprobs += time.perf_counter() - started
        return found


class Snapshots(TrainerCallback):
    """The weights after every ``every`` updates; the time that writing them takes is left out."""

    def __init__(self, every: int, folder: Path) -> None:
        self.every, self.folder = every, folder
        self.writing, self.started = 0.0, 0.0
        self.at_seconds: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        if state.global_step % self.every == 0:
            now = time.perf_counter()
            self.at_seconds.append(now - self.started - self.writing)
            torch.save(named["model"].state_dict(), self.folder / f"weights_{state.global_step:05d}.pt")
            self.writing += time.perf_counter() - now


def right(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    """1 where the last box holds the answer."""
    boxes = [re.findall(r"\\boxed\{([^{}]*)\}", text) for text in completions]
    return [float(bool(b) and b[-1].strip() == a) for b, a in zip(boxes, answer, strict=True)]


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    out, updates = Path(job["out"]), job["updates_per_rollout"]
    rows = job["problems_per_rollout"] * job["completions_per_problem"]
    precision = {"bf16": True} if job["bf16"] else {"bf16": False, "fp16": False}
    config = GRPOConfig(
        output_dir=str(out / "trainer"),
        use_cpu=True,
        **precision,
        seed=job["seed"],
        per_device_train_batch_size=rows // updates // job["micro_batches"],
        gradient_accumulation_steps=job["micro_batches"],
        steps_per_generation=updates * job["micro_batches"],
        num_generations=job["completions_per_problem"],
        max_steps=job["rollouts"] * updates,
        max_completion_length=job["max_new_tokens"],
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        learning_rate=job["learning_rate"],
        lr_scheduler_type="constant",
        adam_beta1=job["adam_betas"][0],
        adam_beta2=job["adam_betas"][1],
        weight_decay=job["weight_decay"],
        max_grad_norm=job["max_grad_norm"],
        optim="adamw_torch_fused",
        loss_type="grpo",
        beta=0.0,
        epsilon=0.2,
        gradient_checkpointing=False,
        shuffle_dataset=False,
        logging_steps=updates,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        cache_implementation=job["cache"],
    )
    snapshots = Snapshots(updates * job["keep_every"], out)
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    trainer = TimedTrainer(
        model=model,
        reward_funcs=right,
        args=config,
        train_dataset=Dataset.from_list(job["problems"]),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        callbacks=[snapshots],
    )
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started - snapshots.writing
    result = {
        "seconds": seconds,
        "processor_seconds": time.process_time(),
        "generate_and_score": trainer.generating,
        "old_logprobs": trainer.old_logprobs,
        "training": seconds - trainer.generating,
        "completions": trainer.completions,
        "tokens": trainer.tokens,
        "at_seconds": snapshots.at_seconds,
    }
    (out / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
