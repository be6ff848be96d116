"""Runs that torchrun starts: the paper's presets with their own trainer and engine, and small sizes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest import mock

import torch
import vllm
from hydra import compose, initialize_config_dir

from nft_lightning.app.build import CONF_DIR
from nft_lightning.app.run import run
from nft_lightning.distributed.join import join
from nft_lightning.distributed.processes import rank, world_size
from nft_lightning.engines.vllm.engine import VLLMEngineConfig
from nft_lightning.policy.loading import TinyModel
from nft_lightning.rollouts.partition import engine_copies, share
from tests.engines.stand_in_llm import StandInLLM

SMALL = (
    "trainer.accelerator=cpu",
    "trainer.num_nodes=1",
    "trainer.threads=1",
    "trainer.max_epochs=1",
    "rollout.problems_per_rollout=4",
    "rollout.completions_per_problem=4",
    "rollout.max_new_tokens=12",
    "batching.updates_per_rollout=2",
    "evaluation.problems=4",
    "evaluation.completions_per_problem=1",
    "callbacks=none",
    # A judge that a random model can please.
    "verifier=callable",
    "~verifier.extract",
    "verifier.function=tests.end_to_end.test_presets.even_length",
)


def presets(parent: Path, model: str, typed: list[str]) -> None:
    """Two updates of each, into folders by number."""
    for number, words in enumerate(typed):
        with initialize_config_dir(str(CONF_DIR.resolve())):
            cfg = compose(
                "train",
                [
                    *words.split(),
                    f"model.path={model}",
                    f"problems.path={parent / 'problems.jsonl'}",
                    f"trainer.devices={world_size()}",
                    "rollout.engine.tensor_parallel_size=2",
                    f"run_dir={parent / str(number)}",
                    *SMALL,
                ],
            )
        summary = run(cfg)
        assert summary["updates"] == 2, words


def layout(parent: Path, copies: int) -> None:
    """An engine on every rank, and which prompts each copy writes."""
    join(torch.device("cpu"))
    policy = TinyModel().load(1.0)
    size = world_size() // copies
    engine = VLLMEngineConfig(tensor_parallel_size=size).build(policy.model, policy.tokenizer)
    place, shares = engine_copies(engine)
    prompts = [(1,) * (i + 1) for i in range(11)]
    found = {"ranks": engine.llm.ranks, "mine": share(prompts, place, shares)}
    (parent / f"{rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    StandInLLM.world_size = world_size()
    what, folder, *words = sys.argv[1:]
    with mock.patch.object(vllm, "LLM", StandInLLM, create=True):
        if what == "layout":
            layout(Path(folder), int(words[0]))
        else:
            presets(Path(folder), words[0], words[1:])
