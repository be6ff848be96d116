"""What may be under ``trainer``: keys and values of ``lightning.Trainer``, checked ahead."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nft_lightning.app.lightning_use import REFUSED_FLAGS
from nft_lightning.common.bounds import check_field
from nft_lightning.common.text import suggestion
from nft_lightning.errors import UserError, first_line
from nft_lightning.training.strategies.choice import CUT

LEAST = {"max_epochs": 1, "num_nodes": 1, "threads": 0}
# What a run gives Lightning where the config says nothing.
DEFAULTS: dict[str, Any] = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
}


def trainer_keys() -> list[str]:
    """Return what ``lightning.Trainer`` takes."""
    from lightning import Trainer

    return list(inspect.signature(Trainer).parameters)


def check_keys(node: Any) -> None:
    """Raise UserError for a key that nobody reads, or a value of a type that Lightning does not take."""
    from lightning import Trainer

    if not isinstance(node, DictConfig):
        raise UserError("trainer", node, "holds no keys", "use trainer=cpu or another of its options")
    # Which precisions a run can use is said where the machine is looked at.
    takes = {**typing.get_type_hints(Trainer.__init__), "threads": int}
    known = [*trainer_keys(), "threads"]
    for key, value in as_data(node).items():
        name = f"trainer.{key}"
        if key not in known:
            raise UserError(name, value, "is not known", suggestion(key, known, prefix="trainer."))
        if key in REFUSED_FLAGS:
            raise UserError(name, value, *REFUSED_FLAGS[key])
        if key != "precision":
            check_value(name, value, takes[key], LEAST.get(key))
    if node.get("max_epochs") is None:
        raise UserError("trainer.max_epochs", None, "has no value", "use 1 or more")


def check_value(name: str, value: Any, wanted: Any, least: int | None = None) -> None:
    """Raise UserError for a value that is not of the type of an annotation, or below the least."""
    if not fits(value, wanted):
        raise UserError(name, value, "is of another type", f"give {described(wanted)}")
    check_field(name, value, least=least)


def as_data(node: DictConfig) -> dict[str, Any]:
    """Return the node as plain data."""
    found = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    return {str(key): value for key, value in found.items()}  # type: ignore[union-attr]


def fits(value: Any, wanted: Any) -> bool:
    """Return whether a value of a config is of the type of an annotation; NaN is of none."""
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if isinstance(value, float) and math.isnan(value):
        return False
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is typing.Literal:
        return any(value == one and type(value) is type(one) for one in inner)
    if origin is list:
        return isinstance(value, list) and bool(value) and all(fits(v, inner[0]) for v in value)
    if origin is dict:
        return isinstance(value, dict) and bool(value) and all(fits(v, inner[1]) for v in value.values())
    if isinstance(value, bool):
        return wanted is bool
    if wanted is float:
        return isinstance(value, int | float)
    return isinstance(wanted, type) and isinstance(value, wanted)


def described(wanted: Any) -> str:
    """Return the values of an annotation that a config can hold, in words."""
    words = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        type(None): "null",
        list: "a list",
        dict: "keys with whole numbers",
    }
    found = []
    inner = typing.get_args(wanted) if typing.get_origin(wanted) is not typing.Literal else ()
    for one in inner or (wanted,):
        if typing.get_origin(one) is typing.Literal:
            found += [str(value) for value in typing.get_args(one)]
        plain = typing.get_origin(one) or one
        if plain in words:
            found.append(words[plain])
    return " or ".join(dict.fromkeys(found))


def check_flags(node: DictConfig) -> None:
    """Raise UserError for values that Lightning refuses when a trainer is made of them.

    Loggers and callbacks are left out, and strategies that are ours.
    """
    options = as_data(node)
    options.pop("threads", None)
    if options.get("strategy") in CUT:
        options.pop("strategy")
    if str(options.get("precision")) == "16-true":
        options.pop("precision")  # ours
    reason = refusal(options)
    if not reason:
        return
    # What the command line adds is last.
    for key in reversed(list(options)):
        rest = {name: value for name, value in options.items() if name != key}
        if not refusal(rest):
            raise UserError(
                f"trainer.{key}", options[key], f"is refused by Lightning ({reason})", "leave it out"
            )
    raise UserError("trainer", options, f"are refused by Lightning ({reason})", "see docs/scale.md")


def refusal(options: Mapping[str, Any]) -> str:
    """Return why Lightning makes no trainer of these options; empty where it does."""
    import lightning

    try:
        lightning.Trainer(**{**DEFAULTS, "enable_checkpointing": False, **options}, logger=False)
    except Exception as error:  # whatever it raises is about the options, which are all there is
        return first_line(error)
    return ""
