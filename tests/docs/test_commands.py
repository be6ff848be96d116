"""Every command that a page shows: nft-* compose or parse, scripts, targets and extras are there."""

from __future__ import annotations

import re
import tomllib
from unittest import mock

import pytest
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.override_parser.types import Sweep

from nft_lightning.app.build import options_of
from nft_lightning.cli import browse, compare, verify
from nft_lightning.cli.entry import compose_or_explain
from nft_lightning.cli.plan import take_json_flag
from nft_lightning.cli.words import first_of, group_of, groups_of, is_word, ready, understood
from tests.commands import command, loaded_once
from tests.docs.pages import ROOT, blocks, commands, lines_of_shell, words

CONFIGS = {"nft-train": "train", "nft-eval": "evaluate", "nft-plan": "plan"}
PARSERS = {"nft-compare": compare.parser, "nft-browse": browse.parser, "nft-verify": verify.parser}
# A config of the reader's own, as a tutorial has it.
OWN = {
    "my_conf/algorithm/centered.yaml": "defaults:\n  - base\n\n_target_: nft_lightning.GRPO\n",
    "DIR/problems/mine.yaml": "defaults:\n  - jsonl\n\npath: mine.jsonl\n",
    "my_conf/verifier/mine.yaml": "_target_: nft_lightning.ExactVerifier\n",
    "my_conf/verifier/graded.yaml": "_target_: nft_lightning.ExactVerifier\n",
    "DIR/algorithm/mine.yaml": "defaults:\n  - base\n\n_target_: nft_lightning.GRPO\n",
}
# Shown with what they answer, which is compared below.
REFUSED = {"optimizer.learning_rat=1e-3"}
# A name in capitals where the reader's own goes; a key without a value in prose.
UNFINISHED = re.compile(r"^(KEY|GROUP|RUN|FILE|\[|<)|=(KEY|VALUE)?$|=\.\.\.$")


def hydra_commands() -> list[tuple[str, tuple[str, ...]]]:
    shown = [(page, given) for name in CONFIGS for page, given in commands(name) if given[0] == name]
    return [(page, given) for page, given in shown if not REFUSED & set(given)]


@pytest.fixture
def own_configs(tmp_path, monkeypatch):
    for path, text in OWN.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.chdir(tmp_path)


def overrides(given: list[str]) -> list[str]:
    """Return what a command composes: of many runs the first, without what only a search reads."""
    found = list(given)
    take_json_flag(found)
    found = [word for word in ready(found) if is_word(word) and not UNFINISHED.search(word)]
    if {"-m", "--multirun"} & set(given):
        found = [word for word in found if group_of(word) not in ("sweep", "pruner")]
        found = [first_of(word) for word in found]
        found = [word for word in found if not isinstance(understood(word), Sweep)]
    return found


@pytest.mark.parametrize("config_name", CONFIGS)
def test_commands_compose(config_name, own_configs):
    faults = []
    shown = [(page, given) for page, given in hydra_commands() if given[0] == config_name]
    assert len(shown) > 5
    with mock.patch.object(FileConfigSource, "load_config", loaded_once):
        for page, (_, *given) in shown:
            try:
                compose_or_explain(CONFIGS[config_name], overrides(given))
            except Exception as error:
                faults.append(f"{page}: {' '.join(given)}: {error}")
    assert not faults


def test_searches_are_options():
    for page, given in hydra_commands():
        for word in given:
            group, _, value = word.partition("=")
            if group in ("sweep", "pruner") and value.isidentifier():
                assert value in options_of(group), (page, given)


@pytest.mark.parametrize("name", PARSERS)
def test_arguments_parse(name):
    shown = [(page, given) for page, given in commands(name) if given[0] == name and len(given) > 1]
    assert shown
    parser = PARSERS[name]()
    parser.exit_on_error = False
    for _, (_, *given) in shown:
        if name == "nft-compare" and given[0].startswith("--"):
            given = ["RUNS", *given]
        required = ["--out", "report"] if name == "nft-compare" and "--out" not in given else []
        parser.parse_args([*given, *required])


def test_refusals_are_as_shown():
    (block,) = {b.text for b in blocks("") if "$ nft-train optimizer.learning_rat=" in b.text}
    asked, answer = block.strip().splitlines()
    assert f"error: {command(*words(asked)).sentence}" == answer


def test_scripts_and_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    missing = []
    for page, line in lines_of_shell():
        given = words(line)
        if given[:1] == ["make"] and len(given) > 1 and given[1].islower():
            missing += [(page, line)] if given[1] not in targets else []
        script = given[1] if given[:1] == ["python"] and len(given) > 1 else "".join(given[:1])
        if script.startswith(("benchmarks/", "sweeps/", "examples/")) and script.endswith(
            (".py", ".sh")
        ):
            missing += [(page, line)] if not (ROOT / script).is_file() else []
    assert not missing


def test_extras_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = set()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "conf").rglob("*.yaml")]:
        for names in re.findall(r"pip install '\.\[([a-z0-9,-]+)\]'", path.read_text()):
            named |= {(path.name, extra) for extra in names.split(",")}
    assert named
    assert not [(path, extra) for path, extra in named if extra not in extras]
    install = (ROOT / "docs" / "install.md").read_text()
    assert not [extra for extra in extras if f"`{extra}`" not in install]


def test_every_option_has_a_line():
    page = (ROOT / "docs" / "choices.md").read_text()
    for group in sorted({*groups_of("train"), "eval"}):
        assert not [name for name in options_of(group) if f"`{name}`" not in page], group


def test_every_logger_is_explained():
    page = (ROOT / "docs" / "loggers.md").read_text()
    assert not [name for name in options_of("logger") if f"| `logger={name}` |" not in page]
