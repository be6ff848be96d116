"""The prompt of a run as its folder keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nft_lightning.app.earlier import RENAMED
from nft_lightning.common.files import write_text_whole
from nft_lightning.errors import UserError
from nft_lightning.problems.prompts import PromptConfig

PROMPT_FILE = "prompt.jinja"


def keep_prompt_file(prompt: PromptConfig, run: Path) -> None:
    """Copy a prompt's Jinja file into the run folder: its path would not say what was asked."""
    if prompt.jinja is not None:
        run.mkdir(parents=True, exist_ok=True)
        write_text_whole(run / PROMPT_FILE, prompt.jinja)


def check_prompt_file(prompt: PromptConfig, run: Path) -> None:
    """Raise UserError where the Jinja file is no longer what it was when the run began."""
    kept = run / PROMPT_FILE
    if prompt.jinja is not None and kept.is_file() and kept.read_text(encoding="utf-8") != prompt.jinja:
        raise UserError(
            "problems.prompt.template",
            prompt.template,
            "is not what it was when the run began",
            f"put {kept} in its place, or begin a run of its own with another run_dir",
        )


def prompt_node(cfg: DictConfig, run: Path) -> Any:
    """Return the prompt's part of a run's config, with the run's own copy of a Jinja file."""
    kept = run / PROMPT_FILE
    return OmegaConf.merge(cfg.problems.prompt, {"template": str(kept)} if kept.is_file() else {})


def older_key(cfg: Any) -> str:
    """Return ``new was old`` for a key of an earlier version in a saved config, empty for none."""
    for old, new in RENAMED.items():
        if isinstance(cfg, DictConfig) and OmegaConf.select(cfg, old) is not None:
            return f"{new} was {old}"
    return ""
