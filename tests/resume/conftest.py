from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir

from nft_lightning.app import run as running
from nft_lightning.app.build import CONF_DIR
from tests.resume.leave import leave_at, watched_places

SETTINGS = (
    "rollout.problems_per_rollout=8",
    "rollout.completions_per_problem=4",
    "evaluation.problems=6",
    "evaluation.completions_per_problem=2",
    "evaluation.every_epochs=2",
    "batching.updates_per_rollout=3",
    "trainer.max_epochs=4",
    "callbacks.progress=null",
    "callbacks.curve=null",
)


def brief(*overrides):
    """A config whose run takes seconds."""
    with initialize_config_dir(str(CONF_DIR.resolve())):
        return compose("train", [*SETTINGS, *overrides])


@pytest.fixture
def leaving():
    """Run a config until ``place``; see :func:`tests.resume.leave.leave_at`."""
    with watched_places():
        yield leave_at


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """The folder of an undisturbed run."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    running.run(brief(f"run_dir={folder}"))
    return folder
