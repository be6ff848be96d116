"""Settings for other people's models, and a word about values that suit the embedded policy alone."""

from __future__ import annotations

import logging

import pytest

from nft_lightning.app import run as running
from nft_lightning.app.preflight import embedded_values
from nft_lightning.assets import tiny_policy_path

OWN = ("model=hf", f"model.path={tiny_policy_path('tiny')}", "problems=arithmetic")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (OWN, "rollout.max_new_tokens=64 and optimizer.learning_rate=0.0002 suit"),
        ((*OWN, "rollout.max_new_tokens=512"), "optimizer.learning_rate=0.0002 suit"),
        ((*OWN, "rollout.max_new_tokens=512", "optimizer.learning_rate=2e-4"), None),
        ((), None),
        (("experiment=smollm2_stories",), None),
        (("experiment=small_model", "model.path=M", "problems.path=P"), None),
        (("experiment=cpu_model", "model.path=M", "problems.path=P"), None),
        (("experiment=gsm8k_qwen2.5_0.5b",), None),
    ],
)
def test_values_of_the_embedded_policy_are_named(compose_config, words, named):
    found = embedded_values(compose_config(*words, "run_dir=x"), words)
    assert (found is None) if named is None else found.startswith(named)


def test_a_run_says_so_once(compose_config, quick, tmp_path, caplog):
    cfg = compose_config(*quick, *OWN, "trainer.max_epochs=1", "callbacks=none", f"run_dir={tmp_path}/r")
    with caplog.at_level(logging.WARNING):
        running.run(cfg, OWN)
    said = [r.message for r in caplog.records if "suit the embedded policy" in r.message]
    assert len(said) == 1
