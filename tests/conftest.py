from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from nft_lightning.app.build import CONF_DIR

torch.set_num_threads(1)
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def compose_config():
    """Compose nft-train's config as the command line does."""

    def make(*overrides: str):
        with initialize_config_dir(str(CONF_DIR.resolve())):
            return compose("train", list(overrides))

    return make


@pytest.fixture
def quick():
    """Overrides that make a run take seconds."""
    return (
        "rollout.problems_per_rollout=8",
        "rollout.completions_per_problem=4",
        "evaluation.problems=6",
        "evaluation.completions_per_problem=2",
        "evaluation.every_epochs=1",
        "batching.updates_per_rollout=2",
        "trainer.max_epochs=2",
    )


@pytest.fixture(scope="session")
def data_folder():
    if not DATA.is_dir():
        pytest.skip("the benchmark files are not beside the checkout")
    return DATA
