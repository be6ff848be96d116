"""A run's config as it is kept in its folder: no secret in it, and compared before a resume."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nft_lightning.errors import UserError

SECRET = re.compile(
    r"(^|_)(api_?key|access_?key|private_?key|secret|password|passwd|token|credentials?)(_|$)"
)
ENVIRONMENT = re.compile(r"\$\{\s*oc\.env\s*:")
MASKED = "***"
MAY_CHANGE = (
    "trainer.max_epochs",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.threads",
    "policy.gradient_checkpointing",
    "verifier.workers",
    "logger",
    "callbacks",
    "run_dir",
    "resume",
    "on_write_error",
)
"""What a resumed run may have otherwise than it had; each with all below it."""


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of plain data with its dotted name; an empty container counts as a value."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        name = f"{prefix}{key}"
        if isinstance(value, dict | list) and value:
            yield from leaves(value, f"{name}.")
        else:
            yield name, value


def without_secrets(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config; what an environment variable or a key that names a secret holds is masked.

    A value from the environment stays as its interpolation; so does every other text that holds it.
    """
    raw = OmegaConf.to_container(cfg, resolve=False)
    resolved = OmegaConf.to_container(cfg, resolve=True)
    written = dict(leaves(raw))
    hidden: dict[str, str] = {}
    for name, value in leaves(resolved):
        source = str(written.get(name, ""))
        if not isinstance(value, str) or not value:
            continue
        if ENVIRONMENT.search(source):
            hidden[value] = source
        elif SECRET.search(name.rpartition(".")[2].lower()):
            hidden[value] = MASKED

    def cleaned(node: Any, name: str) -> Any:
        if isinstance(node, dict):
            return {k: cleaned(v, f"{name}{k}.") for k, v in node.items()}
        if isinstance(node, list):
            return [cleaned(v, f"{name}{i}.") for i, v in enumerate(node)]
        if isinstance(node, str):
            if node in hidden:
                return hidden[node]
            for secret in (s for s in hidden if len(s) >= 4):
                node = node.replace(secret, MASKED)
        return node

    found: dict[str, Any] = cleaned(resolved, "")
    return found


def secret_override(override: str) -> bool:
    """True where a command-line override gives a secret, which is then not kept."""
    key, _, value = override.lstrip("+~").partition("=")
    return bool(SECRET.search(key.rpartition(".")[2].lower())) and not ENVIRONMENT.search(value)


def check_agreement(cfg: DictConfig, saved: Path) -> None:
    """Raise UserError, with the differences, where ``saved`` was begun with another config."""
    before = dict(leaves(OmegaConf.to_container(OmegaConf.load(saved), resolve=False)))
    now = dict(leaves(without_secrets(cfg)))
    changed = [
        f"{name} {before.get(name, 'missing')!r} -> {now.get(name, 'missing')!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name, MASKED) != now.get(name, MASKED)
        and not any(name == may or name.startswith(f"{may}.") for may in MAY_CHANGE)
    ]
    if changed:
        raise UserError(
            "resume",
            str(saved.parent),
            f"was begun with other settings ({'; '.join(changed)})",
            "leave them as they were, or begin a run of its own with another run_dir",
        )
