"""``--help``: short, whole, and read by ``head``; every value of the default run is explained."""

from __future__ import annotations

import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from nft_lightning.app.build import options_of
from nft_lightning.cli.comments import entries, of_classes, of_files, of_yaml
from nft_lightning.cli.entry import compose_or_explain
from nft_lightning.cli.help import FREQUENT, choices, help_text, is_value, meaning, own, written
from nft_lightning.cli.owners import dotted
from nft_lightning.cli.words import groups_of
from tests.commands import command

COMMANDS = {"train": "nft-train", "evaluate": "nft-eval", "plan": "nft-plan"}


@pytest.mark.parametrize("config_name", COMMANDS)
def test_the_short_help_names_groups_and_frequent_values(config_name):
    ended = command(COMMANDS[config_name], "--help")
    assert (ended.code, ended.errors) == (0, "")
    for group in groups_of(config_name):
        assert " " in group or f"  {group}" in ended.output
    for key in FREQUENT[config_name]:
        assert f"\n  {key}=" in ended.output, key
    assert len(ended.output.splitlines()) <= 80
    assert max(map(len, ended.output.splitlines())) <= 120


@pytest.mark.parametrize("config_name", COMMANDS)
def test_the_whole_help_names_every_value(config_name):
    cfg = compose_or_explain(config_name, [])
    text = help_text(config_name, cfg, whole=True)
    for key in dotted(own(cfg)):
        assert not is_value(cfg, key) or f"\n  {key}=" in text, key


@pytest.mark.parametrize("config_name", COMMANDS)
def test_every_value_is_explained(config_name):
    cfg = compose_or_explain(config_name, [])
    said = of_files(config_name, choices(cfg)) | of_classes(own(cfg))
    keys = [key for key in dotted(own(cfg)) if is_value(cfg, key)]
    values = OmegaConf.to_container(own(cfg), resolve=False)
    assert not [key for key in keys if not meaning(key, written(values, key), said)]


def test_help_shows_the_values_of_the_other_arguments():
    ended = command("nft-train", "experiment=arithmetic_compare", "--help", "seed=7")
    assert "\n  seed=7" in ended.output
    assert "\n  optimizer.learning_rate=0.0001" in ended.output


def test_what_cannot_be_shown_is_one_sentence():
    assert "use --help or --help=all" in command("nft-train", "--help=everything").sentence
    assert "is not an option" in command("nft-plan", "--help", "model=xyzzy").sentence


@pytest.mark.parametrize("flag", ["--help", "--help=all"])
def test_help_survives_a_reader_that_leaves(flag):
    line = f"'{sys.executable}' -m nft_lightning.cli.train {flag} | head -3"
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    assert ended.stdout.startswith("nft-train: ")
    assert ended.stderr == ""


def test_comments_of_a_file_and_of_a_docstring():
    assert of_yaml("train")["batching.minibatch_unit"].startswith("auto | completion")
    assert "batching" not in of_yaml("train")
    doc = "What.\n\nArgs:\n    one, two: both of\n        them.\n    three: a; four: b.\n\nEnd: no."
    assert entries(doc) == {"one": "both of them", "two": "both of them", "three": "a", "four": "b"}


def test_every_algorithm_explains_its_own_values():
    for name in options_of("algorithm"):
        cfg = compose_or_explain("train", [f"algorithm={name}"])
        said = of_files("train", choices(cfg)) | of_classes(cfg.algorithm, "algorithm")
        keys = [f"algorithm.{key}" for key in cfg.algorithm if key != "_target_"]
        assert not [key for key in keys if key not in said], name
        assert OmegaConf.is_config(cfg.algorithm)
