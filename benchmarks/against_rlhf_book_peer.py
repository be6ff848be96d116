"""The other side of benchmarks/against_rlhf_book.py, in its own environment: ``PYTHON THIS job.json``.

Runs ``policy_gradients.train.main`` of the RLHF Book's code on the job's problems. Replaced are its task
(the job's prompts and answers), its chat template (the prompt is the question) and its way to find the
answer (the last box); measured are generation and rewards. Writes ``result.json`` and the weights after
every ``keep_every`` rollouts.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch

JOB = json.loads(Path(sys.argv[1]).read_text())
sys.path.insert(0, JOB["code"])

from policy_gradients import rollout, train, utils  # noqa: E402
from policy_gradients.config import Config, DataConfig, DatasetSpec  # noqa: E402
from policy_gradients.rollout import RolloutEngine  # noqa: E402


class Problems:
    """The job's problems, as a data set of reasoning-gym."""

    def __init__(self, _: Any = None) -> None:
        self.entries = [{"question": p["prompt"], "answer": p["answer"]} for p in JOB["problems"]]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> dict[str, str]:
        return self.entries[index]

    def score_answer(self, answer: str | None, entry: dict[str, str]) -> float:
        return float(answer == entry["answer"])


def boxed(text: str) -> str | None:
    """What the last box holds."""
    found = re.findall(r"\\boxed\{([^{}]*)\}", text)
    return found[-1].strip() if found else None


class Timed:
    """Knows how long the loop took, and writing and judging within it; keeps the weights."""

    def __init__(self) -> None:
        self.rollouts = self.completions = self.tokens = 0
        self.started = self.writing = self.keeping = 0.0
        self.at_seconds: list[float] = []

    def seconds(self) -> float:
        return time.perf_counter() - self.started - self.keeping

    def keep(self, model: torch.nn.Module) -> None:
        """Note the end of a rollout's updates."""
        self.at_seconds.append(self.seconds())
        before = time.perf_counter()
        weights = {name: value.float() for name, value in model.state_dict().items()}
        torch.save(weights, Path(JOB["out"]) / f"weights_{self.rollouts:05d}.pt")
        self.keeping += time.perf_counter() - before


CLOCK = Timed()


def timed(function: Any) -> Any:
    """Count the seconds of a function as those of writing and judging."""

    def measured(*given: Any, **named: Any) -> Any:
        before = time.perf_counter()
        found = function(*given, **named)
        CLOCK.writing += time.perf_counter() - before
        return found

    return measured


class Engine(RolloutEngine):
    """Theirs, which tells the clock when a rollout begins, and so when the updates before it ended."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.model.generate = timed(self.model.generate)
        CLOCK.started = time.perf_counter()

    def _step(self) -> Any:
        if CLOCK.rollouts and CLOCK.rollouts % JOB["keep_every"] == 0:
            CLOCK.keep(self.model)
        buffer = super()._step()
        if len(buffer):
            CLOCK.rollouts += 1
            CLOCK.completions += len(buffer)
            CLOCK.tokens += sum(int(e.action_mask.sum()) for e in buffer.buffer)
        return buffer


def load_model(name: str, device: Any, gradient_checkpointing: bool = False) -> Any:
    """Load as they do, with the job's precision; the template gives the question back."""
    model, tokenizer = utils.load_model(name, device, JOB["checkpointing"])
    tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    return model if JOB["bf16"] else model.float(), tokenizer


def main() -> None:
    torch.set_num_threads(1)
    train.create_dataset = Problems
    train.load_model = load_model
    train.RolloutEngine = Engine
    utils.extract_answer = boxed
    rollout.compute_rewards = timed(rollout.compute_rewards)
    rows = JOB["problems_per_rollout"] * JOB["completions_per_problem"]
    config = Config(
        data=DataConfig(specs=[DatasetSpec(name="chain_sum")]),
        loss="grpo",
        model_name=JOB["model"],
        format_weight=0.0,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        max_new_tokens=JOB["max_new_tokens"],
        lr=JOB["learning_rate"],
        prompts_per_step=JOB["problems_per_rollout"],
        num_rollouts=JOB["completions_per_problem"],
        train_batch_size=rows // JOB["updates_per_rollout"],
        batch_acc=1,
        max_norm=JOB["max_grad_norm"],
        seed=JOB["seed"],
        device="cpu",
    )
    train.main(config)
    seconds = CLOCK.at_seconds[-1]
    result = {
        "seconds": seconds,
        "generate_and_score": CLOCK.writing,
        "training": seconds - CLOCK.writing,
        "completions": CLOCK.completions,
        "tokens": CLOCK.tokens,
        "at_seconds": CLOCK.at_seconds,
    }
    (Path(JOB["out"]) / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
