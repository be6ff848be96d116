"""The commands: in this process up to where a model would be loaded, or as processes of their own."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import hydra
import torch
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.hydra_config import HydraConfig

from nft_lightning.app import assemble, cold_start
from nft_lightning.cli import evaluate, plan, train
from nft_lightning.cli.entry import compose_or_explain, is_plain_run
from nft_lightning.policy.loading import TinyModel

MAINS = {"nft-train": train.main, "nft-eval": evaluate.main, "nft-plan": plan.main}


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, 0 where a model would be loaded now; what it wrote."""

    code: int
    errors: str
    output: str

    @property
    def sentence(self) -> str:
        """The sentence that refuses; fails unless there is exactly one, and nothing else."""
        lines = [line for line in self.errors.splitlines() if line.strip()]
        assert self.code == 2, (self.code, self.errors)
        assert len(lines) == 1, self.errors
        assert lines[0].startswith("error: "), self.errors
        return lines[0].removeprefix("error: ")


class ReachedError(Exception):
    """Every check has passed: a model would be loaded, or ranks started."""


def reached(*_: Any, **__: Any) -> None:
    raise ReachedError


class Composed:
    """Compositions of one command; ``main`` replaces ``hydra.main``, which would make folders."""

    def __init__(self) -> None:
        self.last: Any = None

    def compose(self, config_name: str, overrides: list[str]) -> Any:
        self.last = compose_or_explain(config_name, overrides)
        return self.last

    def main(self, _: str, __: str) -> Callable[[Any], Callable[[], None]]:
        def started(work: Any) -> None:
            if not is_plain_run(sys.argv[1:]):
                reached()
            HydraConfig.instance().set_config(self.last)
            work(self.last.copy())

        return lambda work: lambda: started(work)


LOAD = FileConfigSource.load_config
KEPT: dict[tuple[str, str], Any] = {}


def loaded_once(source: FileConfigSource, config_path: str) -> Any:
    """Keep the YAML files of ``conf/`` in memory: reading them is most of a composition's time."""
    key = (source.path, config_path)
    if key not in KEPT:
        KEPT[key] = LOAD(source, config_path)
    return copy.deepcopy(KEPT[key])


def command(name: str, *arguments: str) -> Ended:
    """Run a command up to where a model would be loaded, or ranks started."""
    errors, output = io.StringIO(), io.StringIO()
    before, code = dict(os.environ), 0
    composed = Composed()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "argv", [name, *arguments]))
        stack.enter_context(mock.patch.object(hydra, "main", composed.main))
        stack.enter_context(mock.patch.object(FileConfigSource, "load_config", loaded_once))
        for module in (train, evaluate):
            stack.enter_context(mock.patch.object(module, "compose_or_explain", composed.compose))
        stack.enter_context(mock.patch.object(assemble, "loaded", reached))
        stack.enter_context(mock.patch.object(cold_start, "make", reached))
        stack.enter_context(mock.patch.object(TinyModel, "load", reached))
        stack.enter_context(mock.patch.object(train, "launch", reached))
        stack.enter_context(mock.patch.object(evaluate, "launch", reached))
        stack.enter_context(contextlib.redirect_stderr(errors))
        stack.enter_context(contextlib.redirect_stdout(output))
        try:
            MAINS[name]()
        except ReachedError:
            pass
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            HydraConfig.instance().cfg = None
            torch.use_deterministic_algorithms(False)
            torch.set_num_threads(1)
            for key in set(os.environ) - set(before):
                del os.environ[key]
    return Ended(code, errors.getvalue(), output.getvalue())


def fault(name: str, *arguments: str) -> str:
    """What is wrong with how a command took its arguments; empty where it would run or said why not."""
    try:
        ended = command(name, *arguments)
    except Exception as error:
        return f"{name} {' '.join(arguments)}: {error!r}"
    return wrong(ended, arguments[-1])


def wrong(ended: Ended, argument: str) -> str:
    """What is wrong with a refusal of ``argument``: it is one sentence with field, value and remedy."""
    if ended.code == 0:
        return ended.errors
    try:
        sentence = ended.sentence
    except AssertionError as error:
        return f"{argument}: {error}"
    key, _, value = argument.lstrip("+~").partition("=")
    field, _, rest = sentence.partition("=")
    last = key.partition("@")[0].strip("/").replace("/", ".").rpartition(".")[2]
    given = value.strip("'\" ")
    named = field == "argument" or last in field
    remedied = sentence.endswith(".") and len(rest.rpartition(": ")[2]) > 3
    # Others are shown as Python writes them.
    plain = given.isalnum() and given.isascii() and given not in ("null", "true", "false", "nan")
    shown = given in rest or not plain
    return "" if named and remedied and shown else f"{argument}: {sentence}"
