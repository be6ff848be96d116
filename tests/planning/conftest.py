from __future__ import annotations

import pytest
from omegaconf import open_dict

from nft_lightning.cli.entry import compose_or_explain
from nft_lightning.planning.plan import as_data, plan_of


@pytest.fixture
def plan():
    """The plan of a command line, as data."""

    def make(*overrides: str, checkpointing: bool | None = None):
        cfg = compose_or_explain("plan", list(overrides))
        if checkpointing is not None:
            with open_dict(cfg):
                cfg.policy.gradient_checkpointing = checkpointing
        return as_data(plan_of(cfg))

    return make
