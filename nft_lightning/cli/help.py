"""``--help``: the groups and the values that people change; ``--help=all``: every value."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nft_lightning.app.build import options_of
from nft_lightning.cli.comments import of_classes, of_files
from nft_lightning.cli.entry import compose_or_explain
from nft_lightning.cli.owners import dotted, holds_keys
from nft_lightning.cli.words import groups_of, is_word
from nft_lightning.errors import UserError

WIDTH = 110
INDENT = 4
FLAGS = ("--help", "-h")
# What people change, in the order in which they meet it.
FREQUENT = {
    "train": (
        "seed",
        "run_dir",
        "resume",
        "trainer.max_epochs",
        "trainer.devices",
        "trainer.precision",
        "problems.prompt.template",
        "rollout.problems_per_rollout",
        "rollout.completions_per_problem",
        "rollout.max_new_tokens",
        "rollout.temperature",
        "batching.updates_per_rollout",
        "batching.max_tokens_per_micro_batch",
        "optimizer.learning_rate",
        "optimizer.schedule",
        "optimizer.warmup_updates",
        "policy.lora_rank",
        "policy.gradient_checkpointing",
        "evaluation.problems",
        "evaluation.completions_per_problem",
        "evaluation.every_epochs",
        "callbacks.checkpoint.every_epochs",
    ),
    "evaluate": (
        "run",
        "checkpoint",
        "out",
        "device",
        "devices",
        "seed",
        "eval.temperature",
        "eval.top_p",
        "eval.max_new_tokens",
        "eval.problems_per_part",
        "eval.prompt.template",
    ),
    "plan": (
        "plan.gpu",
        "plan.gpus",
        "plan.mean_response_tokens",
        "plan.mean_prompt_tokens",
        "plan.format",
        "rollout.problems_per_rollout",
        "rollout.completions_per_problem",
        "rollout.max_new_tokens",
        "batching.updates_per_rollout",
        "batching.max_tokens_per_micro_batch",
        "trainer.devices",
        "trainer.precision",
        "trainer.max_epochs",
        "policy.lora_rank",
        "policy.gradient_checkpointing",
        "optimizer.name",
    ),
}


def shown_help(config_name: str, arguments: list[str]) -> bool:
    """Print the help where it is asked for, of the config that the other arguments give; return whether.

    Args:
        config_name: ``train``, ``evaluate`` or ``plan``. arguments: the command's.

    Raises:
        UserError: another value than ``all`` is asked for, or the other arguments cannot be composed.
    """
    asked = [a for a in arguments if a.partition("=")[0] in FLAGS]
    if not asked:
        return False
    value = asked[0].partition("=")[2]
    if value not in ("", "all"):
        raise UserError("--help", value, "is no kind of help", "use --help or --help=all")
    cfg = compose_or_explain(config_name, [a for a in arguments if is_word(a) and a not in asked])
    write(help_text(config_name, cfg, whole=value == "all"))
    return True


def help_text(config_name: str, cfg: DictConfig, whole: bool) -> str:
    """Return the help of a command for a composed config, with its ``hydra`` node."""
    chosen = choices(cfg)
    ours = own(cfg)
    comments, meanings = of_files(config_name, chosen), of_classes(ours)
    every = [key for key in dotted(ours) if is_value(cfg, key)]
    named = [key for key in FREQUENT[config_name] if key in every]
    shown = every if whole else named
    lines = [cfg.hydra.help.header.strip(), "", "Choose one of each group (group=option):", ""]
    for group in sorted(groups_of(config_name), key=lambda name: (name != "algorithm", name)):
        if " " in group:  # Hydra's own, overridden
            continue
        now = chosen.get(group)
        label = f"  {group} [{now}]: " if now else f"  {group}: "
        lines += wrapped(label + ", ".join(options_of(group)))
    title = "Every value of this config" if whole else "The values that people change most"
    lines += ["", f"{title} (key=value):", ""]
    values = OmegaConf.to_container(ours, resolve=False)
    for key in shown:
        value = written(values, key)
        text = meaning(key, value, meanings) if whole else ""
        text = text or meaning(key, value, comments) or first_sentence(meaning(key, value, meanings))
        lines += entry(key, value, text)
    lines += ["", *([] if whole else ["Every value with its meaning: --help=all"])]
    return "\n".join([*lines, cfg.hydra.help.footer.strip(), ""])


def written(values: Any, key: str) -> object:
    """Return the value of a dotted key in nested data."""
    found = values
    for part in key.split("."):
        found = found[part]
    return found


def meaning(key: str, value: object, said: Mapping[str, str]) -> str:
    """Return what a key means: what is said of it, of the key that it refers to, or of its node."""
    if key in said:
        return said[key]
    referred = str(value).removeprefix("${").removesuffix("}") if str(value).startswith("${") else ""
    return said.get(referred) or said.get(key.rpartition(".")[0], "")


def entry(key: str, value: object, text: str) -> list[str]:
    """Return the lines of one key: its value, and what it means."""
    shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    head = f"  {key}={shown}"
    if not text:
        return [head]
    if len(head) <= 50 and len(text) <= WIDTH - 52:
        return [f"{head:<50}  {text}"]
    blank = " " * (INDENT + 2)
    return [head, *textwrap.wrap(text, WIDTH, initial_indent=blank, subsequent_indent=blank)]


def wrapped(text: str) -> list[str]:
    """Return a long line in several, the others indented."""
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * (INDENT + 2), break_on_hyphens=False)


def first_sentence(text: str) -> str:
    """Return what comes before the first full stop or semicolon."""
    return text.partition(". ")[0].partition("; ")[0]


def own(cfg: DictConfig) -> DictConfig:
    """Return the config without Hydra's part of it."""
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def is_value(cfg: DictConfig, key: str) -> bool:
    """Return whether a key holds a value that is meant to be changed, and no keys of its own."""
    place, _, last = key.rpartition(".")
    parent = OmegaConf.select(cfg, place) if place else cfg
    return last != "_target_" and not holds_keys(parent, last)


def choices(cfg: DictConfig) -> dict[str, str]:
    """Return the option of each group, Hydra's own left out."""
    found = cfg.hydra.runtime.choices
    return {str(k): str(v) for k, v in found.items() if v and not str(k).startswith("hydra/")}


def write(text: str) -> None:
    """Write to the screen; a reader that has seen enough, as ``head`` has, is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
