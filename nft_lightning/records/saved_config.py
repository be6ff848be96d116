"""A run's config as it is kept in its folder: no secret in it, and compared before a resume."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nft_lightning.errors import UserError

SECRET = re.compile(
    r"(^|_)(api_?key|access_?key|private_?key|secret|password|passwd|token|credentials?)(_|$)"
)
ENVIRONMENT = re.compile(r"\$\{\s*oc\.env\s*:")
MASKED = "***"
# Files of a run folder: the command that began it, and what a resume changed.
COMMAND = "command.json"
CHANGES = "changes.json"
MAY_CHANGE = (
    "trainer",
    "batching.max_tokens_per_micro_batch",
    "batching.stop_after_empty_rollouts",
    "optimizer.stop_after_skipped_updates",
    "policy.gradient_checkpointing",
    "policy.logprobs",
    "policy.padding_free",
    "policy.compile",
    "model.attention",
    "rollout.engine",
    "rollout.sync_check",
    "verifier.workers",
    "verifier.timeout_seconds",
    "verifier.memory_limit_mb",
    "logger",
    "callbacks",
    "run_dir",
    "resume",
    "resume_allow",
    "on_write_error",
)
"""What a resumed run may have otherwise, each with all below it: how it runs, and not what it learns."""

DECIDES = (
    "trainer.precision",
    "rollout.engine._target_",
    "rollout.engine.dtype",
    "rollout.engine.max_model_len",  # which prompts are too long
)
"""Keys below those of MAY_CHANGE that do change what is learned."""


LENGTH = ("trainer.max_epochs", "trainer.max_steps")
"""Keys that change what is learned where the learning rate depends on the run's length."""


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of plain data with its dotted name; an empty container counts as a value."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        name = f"{prefix}{key}"
        if isinstance(value, dict | list) and value:
            yield from leaves(value, f"{name}.")
        else:
            yield name, value


def without_secrets(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved config; what an environment variable or a key that names a secret holds is
    masked.

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
    """Return whether a command-line override gives a secret, which is then not kept."""
    key, _, value = override.lstrip("+~").partition("=")
    return bool(SECRET.search(key.rpartition(".")[2].lower())) and not ENVIRONMENT.search(value)


def within(name: str, parents: Iterable[str]) -> bool:
    """Return whether ``name`` is one of ``parents`` or a key below one."""
    return any(name == p or name.startswith(f"{p}.") for p in parents)


def check_agreement(cfg: DictConfig, saved: Path) -> dict[str, tuple[Any, Any]]:
    """Compare with the config that ``saved`` was begun with.

    Returns:
        What changes the course of the run and was allowed by ``resume_allow``: key to (before, now).

    Raises:
        UserError: anything else that changes its course is different.
    """
    before = dict(leaves(OmegaConf.to_container(OmegaConf.load(saved), resolve=False)))
    now = dict(leaves(without_secrets(cfg)))
    changed: dict[str, tuple[Any, Any]] = {}
    decides: tuple[str, ...] = DECIDES
    if OmegaConf.select(cfg, "optimizer.schedule", default="constant") != "constant":
        decides += LENGTH
    for name in sorted(before.keys() | now.keys()):
        harmless = within(name, MAY_CHANGE) and not within(name, decides)
        if not harmless and before.get(name, MASKED) != now.get(name, MASKED):
            changed[name] = (before.get(name), now.get(name))
    allowed = [str(key) for key in cfg.get("resume_allow") or []]
    refused = [name for name in changed if not within(name, allowed)]
    if refused:
        listed = "; ".join(f"{n} {changed[n][0]!r} -> {changed[n][1]!r}" for n in refused)
        raise UserError(
            "resume",
            str(saved.parent),
            f"was begun with other settings ({listed})",
            f"leave them as they were, or add resume_allow=[{','.join(refused)}] to go another way from "
            "here on, which the run folder then says",
        )
    return changed
