"""From a node of the composed config to the object that it describes: typed, with every key known."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from nft_lightning.common.text import suggestion
from nft_lightning.errors import UserError, first_line

PACKAGE = Path(__file__).parents[1]
CONF_DIR = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"

INNER = {"rollout": ("engine", "sync_check"), "eval": ("path", "data_dir")}
"""Keys of a node that are built by themselves, or that only others refer to."""

SHARED = "base"
"""The file of a config group that holds what its options share, and is no option itself."""


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
    """Return the class or function that ``_target_`` names; UserError where there is none, or no
    node.
    """
    if not isinstance(node, DictConfig):
        remedy = f"leave {field} as it was, and set keys below it"
        raise UserError(field, node, "holds no keys", remedy)
    name = str(node.get("_target_", ""))
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{field}._target_", name, f"cannot be imported ({error})", "give package.module.Class"
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
            first_line(error),
            "give a value of the right type",
        ) from error
    return cls(**build_nested(values, field))


def part(cfg: DictConfig, field: str) -> Any:
    """Return the object that the node of this name describes."""
    node = OmegaConf.select(cfg, field)
    inner = INNER.get(field)
    return build(without(node, *inner) if inner else node, field)


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
    except OmegaConfBaseException as error:
        _, missing, said = str(error).partition("Missing mandatory value: ")
        if not missing:
            raise
        # A reference names the key that it refers to only in its message.
        direct = isinstance(error, MissingMandatoryValue)
        key = error.full_key if direct and error.full_key else said.split()[0]
        raise UserError(
            key, "???", "has no value", f"give one on the command line: {key}=VALUE"
        ) from error


def unknown_key(name: str, value: Any, known: list[str], field: str) -> UserError:
    """Return the error for a key that nobody reads, with the nearest that somebody does."""
    remedy = suggestion(name.rsplit(".", 1)[-1], known, prefix=f"{field}.")
    return UserError(name, value, "is not known", remedy)


def without(node: DictConfig, *names: str) -> DictConfig:
    """Return the node without some of its keys, which are built on their own."""
    found = node.copy()  # keeps its place in the config, so that references still resolve
    OmegaConf.set_struct(found, False)
    for name in names:
        found.pop(name, None)
    return found
