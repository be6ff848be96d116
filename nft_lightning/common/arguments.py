"""Plain keyword arguments sorted into the config dataclasses that they are fields of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from nft_lightning.common.text import suggestion
from nft_lightning.errors import UserError


def configs_with(
    caller: str, given: Mapping[str, Any], **configs: tuple[type[Any], Any]
) -> dict[str, Any]:
    """Return each config with those of the ``given`` keywords that are its fields.

    Args:
        caller: who was given them, for messages.
        given: keywords and their values.
        configs: by name the dataclass and an instance of it; None begins with the defaults.

    Raises:
        UserError: no config has such a field (the nearest name is in the message), a config is of
            another class, or a value is refused by its config.
    """
    known = {f.name: name for name, (cls, _) in configs.items() for f in fields(cls)}
    chosen: dict[str, dict[str, Any]] = {name: {} for name in configs}
    for keyword, value in given.items():
        if keyword not in known:
            raise unknown_keyword(caller, keyword, value, list(known))
        chosen[known[keyword]][keyword] = value
    made = {}
    for name, (cls, config) in configs.items():
        if config is not None and not isinstance(config, cls):
            raise UserError(
                f"{caller}({name})", config, f"is no {cls.__name__}", f"give {name}={cls.__name__}(...)"
            )
        made[name] = cls(**chosen[name]) if config is None else replace(config, **chosen[name])
    return made


def unknown_keyword(caller: str, keyword: str, value: Any, known: list[str]) -> UserError:
    """Return the error for a keyword that nobody reads, with the nearest that somebody does."""
    return UserError(keyword, value, f"is not known to {caller}", suggestion(keyword, known))
