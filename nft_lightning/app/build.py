"""From a composed config to objects: typed, checked across fields, before a model is loaded."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import inspect
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from nft_lightning.app.lightning_use import check_flags
from nft_lightning.batching.minibatch import check_minibatch_unit
from nft_lightning.distributed.processes import rank
from nft_lightning.errors import UserError
from nft_lightning.types import Problem

PACKAGE = Path(__file__).parents[1]
CONF_DIR = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
NOT_CONDITIONS = (
    "algorithm",
    "seed",
    "run_dir",
    "resume",
    "resume_allow",
    "on_write_error",
    "logger",
    "callbacks",
    "hydra",
)


SHARED = "base"
"""The file of a config group that holds what its options share, and is no option itself."""

RENAMED = {
    "problems.prompt_template": "problems.prompt.template",
    "eval.plan.prompt_template": "eval.prompt.template",
    "eval.plan": "eval",
    "rollout.plan": "rollout",
    "rollout.proof": "rollout.sync_check",
    "batching.deal": "batching.minibatch_unit",
    "algorithm.discount": "algorithm.gamma",
    "algorithm.trace": "algorithm.gae_lambda",
    "algorithm.engine_correction": "algorithm.importance_correction",
    "algorithm.engine_correction_level": "algorithm.importance_correction_level",
    "algorithm.engine_ratio_low": "algorithm.importance_ratio_low",
    "algorithm.engine_ratio_high": "algorithm.importance_ratio_high",
}
"""Keys of earlier versions and their names now, each with all keys below it; the longest comes first."""


def options_of(group: str) -> list[str]:
    """Return the options of a config group, sorted."""
    names = [path.stem for path in (CONF_DIR / group).glob("*.yaml")]
    return sorted(name for name in names if name != SHARED)


def option(group: str, name: str) -> DictConfig:
    """Return one option of a config group by itself, with what it shares with the others."""
    shared = CONF_DIR / group / f"{SHARED}.yaml"
    node = OmegaConf.load(CONF_DIR / group / f"{name}.yaml")
    merged = OmegaConf.merge(OmegaConf.load(shared), node) if shared.is_file() else node
    assert isinstance(merged, DictConfig)
    merged.pop("defaults", None)
    return merged


def target(node: DictConfig, field: str) -> Any:
    """Return the class or function that ``_target_`` names."""
    name = str(node.get("_target_", ""))
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{field}._target_", name, "cannot be imported", "give package.module.Class"
        ) from error


def build(node: DictConfig, field: str) -> Any:
    """Return the object a config node describes; its class is its schema.

    A dataclass gets typed, checked fields; any other callable gets the node's keys as arguments,
    and those of them that name a ``_target_`` are built first. With ``_partial_: true`` it is not
    called: its user gives what is missing.

    Raises:
        UserError: an unknown key (with the nearest name), a wrong type, or what the class refuses.
    """
    cls: Callable[..., Any] = target(node, field)
    values = {str(k): v for k, v in resolved(node, field).items() if k != "_target_"}
    later = bool(values.pop("_partial_", False))
    given = OmegaConf.create(values)
    parameters = parameters_of(cls, field)
    known = list(parameters)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    refused = {str(k): given[k] for k in given if str(k) in getattr(cls, "unsupported_options", {})}
    if refused.keys() - set(known):
        return cls(**refused)
    for key in given:
        if str(key) not in known and not takes_any:
            raise unknown_key(f"{field}.{key!s}", given[key], known, field)
    if not dataclasses.is_dataclass(cls):
        arguments = build_nested(OmegaConf.to_container(given), field)
        if later:
            return partial(cls, **arguments)
        check_complete(cls, arguments, field)
        return cls(**arguments)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(cls), given)
        values = {
            str(k): OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for k, v in merged.items()
        }
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or ""
        raise UserError(
            f"{field}.{key}".rstrip("."),
            OmegaConf.select(given, key) if key else None,
            str(error).strip().splitlines()[0].rstrip("."),
            "give a value of the right type",
        ) from error
    return cls(**build_nested(values, field))


def parameters_of(cls: Callable[..., Any], field: str) -> Mapping[str, inspect.Parameter]:
    """Return what ``cls`` takes; UserError for a built-in function that does not say."""
    try:
        return inspect.signature(cls).parameters
    except ValueError as error:
        raise UserError(
            f"{field}._target_",
            getattr(cls, "__qualname__", cls),
            "does not say which arguments it takes",
            "wrap it in a function of your own",
        ) from error


def check_complete(cls: Callable[..., Any], arguments: dict[str, Any], field: str) -> None:
    """Raise UserError where ``cls`` needs an argument that the config does not give."""
    for name, parameter in parameters_of(cls, field).items():
        variable = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.default is parameter.empty and not variable and name not in arguments:
            raise UserError(
                f"{field}.{name}",
                None,
                f"has no value, which {cls.__qualname__} needs",
                "give one, or _partial_: true where the run itself gives it",
            )


def build_nested(value: Any, field: str) -> Any:
    """Return the same data with every node inside it that names a ``_target_`` built."""
    if not isinstance(value, dict):
        return value
    if "_target_" in value:
        return build(OmegaConf.create(value), field)
    return {k: build_nested(v, f"{field}.{k}") for k, v in value.items()}


def resolved(node: DictConfig, field: str) -> dict[str, Any]:
    """Return the node as plain data; a value that must be given and is not is named."""
    try:
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)  # type: ignore[return-value]
    except MissingMandatoryValue as error:
        key = getattr(error, "full_key", None) or field
        raise UserError(
            key, "???", "has no value", f"give one on the command line: {key}=VALUE"
        ) from error
    except OmegaConfBaseException as error:
        if "???" not in str(error) and "mandatory" not in str(error).lower():
            raise
        key = f"{field.split('.')[0]}.path"
        raise UserError(
            key, "???", "has no value", f"give one on the command line: {key}=VALUE"
        ) from error


def unknown_key(name: str, value: Any, known: list[str], field: str) -> UserError:
    """Return the error for a key that nobody reads, with the nearest that somebody does."""
    near = difflib.get_close_matches(name.rsplit(".", 1)[-1], known, n=1, cutoff=0.5)
    remedy = f"did you mean {field}.{near[0]}" if near else f"use one of {', '.join(known)}"
    return UserError(name, value, "is not known", remedy)


def new_name(key: str) -> str | None:
    """Return what a key of an earlier version is called now; None where it is called the same."""
    for old, new in RENAMED.items():
        if key == old or key.startswith(f"{old}."):
            return new + key.removeprefix(old)
    return None


def renamed(key: str, value: Any) -> UserError:
    """Return the error for a key of an earlier version."""
    return UserError(key, value, "has another name now", f"use {new_name(key)}")


def check_renamed(cfg: DictConfig) -> None:
    """Raise UserError for a key of an earlier version."""
    for key in RENAMED:
        if (value := OmegaConf.select(cfg, key)) is not None:
            raise renamed(key, value)


def without(node: DictConfig, *names: str) -> DictConfig:
    """Return the node without some of its keys, which are built on their own."""
    return OmegaConf.masked_copy(node, [str(key) for key in node if key not in names])


@dataclasses.dataclass(frozen=True)
class Parts:
    """Everything of a run that can be checked without a model.

    ``asked`` is what the check of the prompts found.
    """

    objective: Any
    model: Any
    source: Any
    rollout: Any
    engine: Any
    sync_check: Any
    verifier: Any
    batching: Any
    evaluation: Any
    optimizer: Any
    policy: Any
    prompt: Any
    asked: Any = None


def build_parts(cfg: DictConfig) -> Parts:
    """Build and cross-check. Raises UserError; loads no model."""
    from nft_lightning.app.prompting import check_asked

    check_renamed(cfg)
    parts = Parts(
        objective=build(cfg.algorithm, "algorithm"),
        model=build(cfg.model, "model"),
        source=build(cfg.problems.source, "problems.source"),
        rollout=build(without(cfg.rollout, "engine", "sync_check"), "rollout"),
        engine=build(cfg.rollout.engine, "rollout.engine"),
        sync_check=build(cfg.rollout.sync_check, "rollout.sync_check"),
        verifier=build(cfg.verifier, "verifier"),
        batching=build(cfg.batching, "batching"),
        evaluation=build(cfg.evaluation, "evaluation"),
        optimizer=build(cfg.optimizer, "optimizer"),
        policy=build(cfg.policy, "policy"),
        prompt=build(cfg.problems.prompt, "problems.prompt"),
    )
    needs = parts.objective.needed_inputs
    needed, given = needs.group_size, parts.rollout.completions_per_problem
    if given < needed:
        raise UserError(
            "rollout.completions_per_problem",
            given,
            f"is too few for {type(parts.objective).__name__}, which compares answers to one problem",
            f"use {needed} or more",
        )
    check_rewards(parts)
    check_minibatch_unit(parts.batching.minibatch_unit, parts.objective, "algorithm")
    if needs.references and all(p.solution is None for p in sample(parts.source)):
        raise UserError(
            "problems",
            parts.source.problem(0, 0).id,
            f"has no worked solution, from which {type(parts.objective).__name__} learns",
            'use problems=arithmetic, or give "solution" on each line of problems=jsonl',
        )
    check_trainer(cfg)
    asked = check_asked(
        parts.model, parts.source, parts.prompt, parts.rollout, parts.evaluation, parts.engine
    )
    return dataclasses.replace(parts, asked=asked)


def sample(source: Any) -> Sequence[Problem]:
    """Return every training problem of a finite source, the first one of an endless one."""
    return getattr(source, "training", None) or [source.problem(0, 0)]


def check_rewards(parts: Parts) -> None:
    """Raise UserError where an algorithm that needs right and wrong alone would get anything else."""
    if not parts.objective.required_inputs.binary_rewards:
        return
    name = type(parts.objective).__name__
    if getattr(parts.verifier, "continuous", False):
        raise UserError(
            "verifier",
            type(parts.verifier).__name__,
            f"gives continuous rewards, but {name} needs right or wrong",
            "use verifier=math_verify, or an algorithm that takes them, such as grpo",
        )
    rewards = {getattr(parts.verifier.rewards, o) for o in ("correct", "wrong", "unparsable", "timeout")}
    if not rewards <= {0.0, 1.0, None}:
        raise UserError(
            "verifier.rewards",
            sorted(r for r in rewards if r is not None),
            f"are not binary, which {name} needs",
            "use 0, 1 or null",
        )


def check_trainer(cfg: DictConfig) -> None:
    """What Lightning would only find out later, or never."""
    if not isinstance(cfg.trainer.max_epochs, int) or cfg.trainer.max_epochs < 1:
        raise UserError("trainer.max_epochs", cfg.trainer.max_epochs, "trains nothing", "use 1 or more")
    if not isinstance(cfg.seed, int) or cfg.seed < 0:
        raise UserError("seed", cfg.seed, "is not a seed", "use a whole number, 0 or more")
    from lightning import Trainer

    known = [*inspect.signature(Trainer).parameters, "threads"]
    for key in cfg.trainer:
        if key not in known:
            raise unknown_key(f"trainer.{key!s}", cfg.trainer[key], known, "trainer")
    check_flags(cfg.trainer)


def check_run_dir(run_dir: str, resume: str | None = None) -> None:
    """Raise UserError where the run folder cannot be made or written, or holds another run."""
    folder = Path(run_dir)
    # The first rank may have begun to write by the time the others look.
    if not resume and (folder / "config.yaml").exists() and rank() == 0:
        raise UserError(
            "run_dir",
            run_dir,
            "holds a run already",
            f"continue it with resume={run_dir}, or give another folder",
        )
    while not folder.exists():
        folder = folder.parent
    try:
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is a file")
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            "run_dir", run_dir, f"cannot be written ({error.strerror or error})", "give another folder"
        ) from error


def conditions_hash(cfg: DictConfig) -> str:
    """Eight characters that are equal for runs under equal conditions: all but algorithm and seed."""
    data = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(data, dict)
    kept = {k: v for k, v in data.items() if k not in NOT_CONDITIONS}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:8]
