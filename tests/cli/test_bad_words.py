"""Every command, every config group chosen away, misspelt or quoted wrongly: it runs, or says why not.

The commands run in this process up to where a model would be loaded; a few do in one of their own.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
from omegaconf import DictConfig, OmegaConf

from nft_lightning.app.build import options_of
from nft_lightning.app.hardware import check_precision
from nft_lightning.app.parts import check_trainer
from nft_lightning.app.trainer_keys import check_flags, trainer_keys
from nft_lightning.cli.presets import without_strays
from nft_lightning.cli.words import groups_of
from nft_lightning.errors import UserError
from tests.commands import command, fault, wrong

CONFIGS = {"nft-train": "train", "nft-eval": "evaluate", "nft-plan": "plan"}
BELOW = {"problems": ["problems/prompt"], "rollout": ["rollout/plan", "rollout/sync_check"]}
AWAY = ["~G", "G=null", "G=", "+G=null", "~G=xyzzy"]
MISSPELT = ["G=xyzzy", "Gx=cpu", "+G=xyzzy", "G@foo=xyzzy", "/G=xyzzy", "G.=1", "=G", "G", "G =x"]
QUOTED_WRONGLY = [
    *("G='a", 'G="a', "G=a,b", "G=a,", "G={", "G=}", "G=[", "G=a]", "G=(", "G={a:1}", "G=[xyzzy]"),
    *("G=a b", "G=a:b", "G=a=b", "G==x", "G=$", "G=${", "G=${nope}", "G=é", "G=日本", "G=#", "G=~"),
    *("G=1", "G=true", "G=nan", "G=???", "G=\\"),
]
VALUES = [
    *("null", "", "xyzzy", "1.5", "nan", "true", "[1,2]", "'a", "a,b", "{", "a]", "a b", "a:b", "a=b"),
    *("$", "${", "${nope}", "???", "~/x", "日本"),
]
FEW = ["null", "xyzzy", "-3", "{a:1}"]
KEYS = {
    "nft-train": {
        **dict.fromkeys(("run_dir", "optimizer.learning_rate"), VALUES),
        **dict.fromkeys(("seed", "resume_allow", "on_write_error", "optimizer", "problems.source"), FEW),
        **dict.fromkeys(("verifier._target_", "callbacks.progress", "logger.csv", "model.name"), FEW),
    },
    "nft-eval": {
        "devices": VALUES,
        **dict.fromkeys(("out", "seed", "device", "threads", "run", "checkpoint", "eval"), FEW),
    },
    "nft-plan": {
        "plan.gpus": VALUES,
        **dict.fromkeys(("plan", "plan.format", "model", "rollout.engine", "policy.lora_rank"), FEW),
    },
}
TAKES_ANY_NUMBER = {"min_epochs", "min_steps", "num_sanity_val_steps", "log_every_n_steps"}


def groups() -> list[tuple[str, str]]:
    """Each command with each group that it chooses from."""
    found = []
    for name, config in CONFIGS.items():
        for group in sorted(g for g in groups_of(config) if " " not in g):
            found += [(name, one) for one in [group, *BELOW.get(group, [])]]
    return found


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("name", "group"), groups())
def test_a_group_is_an_option_or_one_sentence(name, group):
    forms = (
        [*AWAY, *MISSPELT, *QUOTED_WRONGLY] if name == "nft-train" else [*AWAY[:3], *MISSPELT[:2], "G={"]
    )
    faults = [fault(name, form.replace("G", group)) for form in forms]
    assert not [f for f in faults if f]


def test_groups_of_other_commands():
    for name, word in [("nft-train", "eval=arithmetic"), ("nft-eval", "algorithm=nft")]:
        assert "is no choice of this command" in command(name, word).sentence


@pytest.mark.parametrize(("name", "key"), [(n, k) for n, keys in KEYS.items() for k in keys])
def test_a_key_takes_its_value_or_refuses_it(name, key):
    faults = [fault(name, f"{key}={value}") for value in KEYS[name][key]]
    assert not [f for f in faults if f]


@pytest.mark.parametrize(
    "key", ["seed", "run_dir", "optimizer", "optimizer.learning_rate", "trainer.devices"]
)
def test_a_key_that_is_left_out(key):
    assert not fault("nft-train", f"~{key}")


@pytest.mark.parametrize("key", [*trainer_keys(), "threads"])
def test_what_lightning_refuses_is_one_sentence(key):
    ended = command("nft-train", f"trainer.{key}=xyzzy")
    assert ended.code != 0, ended.errors
    assert not wrong(ended, f"trainer.{key}=xyzzy")
    for value in (-3, math.nan, [], {}, {"a": "b"}, [None]):
        if value == -3 and key in TAKES_ANY_NUMBER:
            continue
        node = OmegaConf.create({"max_epochs": 1, key: value})
        with pytest.raises(UserError) as caught:
            refuse(node)
        assert caught.value.field == f"trainer.{key}"


def refuse(node: DictConfig) -> None:
    """What nft-train asks of the node ``trainer`` before it starts."""
    check_trainer(OmegaConf.create({"trainer": node, "seed": 0}))
    check_precision(str(node.get("precision", "32-true")))
    check_flags(node)


@pytest.mark.parametrize("key", ["max_epochs", "devices", "num_nodes", "strategy", "precision"])
def test_a_plan_refuses_what_a_run_does(key):
    for value in ("xyzzy", "nan", "[]"):
        assert f"trainer.{key}=" in command("nft-plan", f"trainer.{key}={value}").sentence


def test_what_only_lightning_knows_is_asked_of_lightning():
    refused = command("nft-train", "trainer.profiler=xyzzy", "trainer.max_steps=3").sentence
    assert refused.startswith("trainer.profiler='xyzzy' is refused by Lightning (")
    assert refused.endswith("): leave it out.")


def test_a_preset_with_another_option_leaves_out_what_that_lacks():
    """The preset sets a key of its own verifier."""
    preset = "experiment=qwen2.5_math_7b"
    ended = command("nft-plan", preset, "verifier=callable", "algorithm=nft")
    assert ended.code == 0
    assert ended.errors.splitlines() == [
        f"{preset} sets verifier.extract, which verifier=callable lacks: left out.",
    ]
    kept = command("nft-plan", preset, "verifier=exact")
    assert (kept.code, kept.errors) == (0, "")


@pytest.mark.parametrize("group", sorted(g for g in groups_of("train") if g != "experiment"))
def test_a_preset_takes_an_option_of_any_group(group):
    words = ["experiment=arithmetic_compare", f"{group}={options_of(group)[0]}"]
    assert without_strays("train", words)[:2] == words


def test_what_is_typed_beside_a_preset_is_refused():
    typed = ["experiment=qwen2.5_math_7b", "algorithm=nft", "algorithm.clip_low=0.1"]
    assert "algorithm.clip_low='0.1' is not a known key" in command("nft-plan", *typed).sentence


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("verifier=callable", "verifier.function"),
        ("problems=jsonl", "problems.path"),
        ("model=hf", "model.path"),
        ("optimizer.learning_rate=???", "optimizer.learning_rate"),
    ],
)
def test_a_value_that_must_be_given_is_named(word, key):
    said = command("nft-train", word).sentence
    assert said == f"{key}='???' has no value: give one on the command line: {key}=VALUE."


MANY = [
    (["seed=0,1", "algorithm=nft,grpx"], "algorithm='grpx' is not an option: did you mean grpo"),
    (["seed=0,1", "optimizer.learning_rat=1"], "did you mean optimizer.learning_rate"),
    (["optimizer.learning_rat=1,2"], "did you mean optimizer.learning_rate"),
    (["seed=0,1", "model=null"], "model='null' cannot be left out"),
    (["sweep=xyzzy"], "sweep='xyzzy' is not an option: use one of learning_rate"),
]


@pytest.mark.parametrize(("words", "sentence"), MANY)
def test_many_runs_are_checked_before_the_first(words, sentence):
    assert sentence in command("nft-train", "-m", *words).sentence


def test_what_hydra_shows_is_checked_too():
    assert "'xyzzy' is not an option" in command("nft-train", "--cfg", "job", "model=xyzzy").sentence


PROCESSES = [
    ("evaluate", ["devices=two"], "devices='two'"),
    ("plan", ["optimizer=null"], "optimizer=None holds no keys"),
]


@pytest.mark.parametrize(("name", "words", "sentence"), PROCESSES)
def test_in_a_process_of_its_own(name, words, sentence, tmp_path):
    line = [sys.executable, "-m", f"nft_lightning.cli.{name}", *words]
    ended = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith(f"error: {sentence}")
    assert "Traceback" not in ended.stderr
    assert os.listdir(tmp_path) == []
