"""``nft-eval run=RUN``: the run's own held-out problems, prompt, verifier and way to answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from nft_lightning.app.run_prompt import older_key, prompt_node
from nft_lightning.common.text import key_of
from nft_lightning.errors import UserError

OWN = "run"
PROMPT = "eval.prompt"


def with_own_problems(arguments: Sequence[str]) -> list[str]:
    """Return the command's arguments, with ``eval=run`` where a run is named and no evaluation is."""
    keys = {key_of(a) for a in arguments if "=" in a}
    named = any(a.startswith("run=") and a not in ("run=", "run=null") for a in arguments)
    return [*arguments, f"eval={OWN}"] if named and "eval" not in keys else list(arguments)


def is_own(cfg: DictConfig) -> bool:
    """Return whether the evaluation is that of a run."""
    held_out = OmegaConf.select(cfg, "eval.sets.held_out")
    return held_out is not None and held_out.source is None


def filled(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Return the config with everything that ``eval=run`` leaves open as the run has it.

    Args:
        cfg: composed; unchanged.
        overrides: what was typed: a verifier and parts of the prompt that are given stay.

    Raises:
        UserError: no run is named, or its config cannot be read or is of an earlier version.
    """
    if not is_own(cfg):
        return cfg
    if cfg.run is None:
        raise UserError("eval", OWN, "is of no run", "add run=RUN_FOLDER")
    if not isinstance(cfg.run, str):
        raise UserError("run", cfg.run, "is not a folder", "give run=RUN_FOLDER")
    run = run_config(Path(cfg.run))
    cfg = cfg.copy()
    OmegaConf.set_struct(cfg, False)
    typed = [key_of(override) for override in overrides]
    if not any(key.partition(".")[0] == "verifier" for key in typed):
        cfg.verifier = run.verifier
    config, held_out = cfg.eval, cfg.eval.sets.held_out
    training, evaluation = run.rollout, run.evaluation
    prompt = prompt_node(run, Path(cfg.run))
    for key in typed:
        if key.startswith(f"{PROMPT}."):
            name = key.removeprefix(f"{PROMPT}.")
            OmegaConf.update(prompt, name, OmegaConf.select(cfg, key), force_add=True)
    config.prompt = prompt
    own = {
        "max_new_tokens": evaluation.max_new_tokens or training.max_new_tokens,
        **{name: evaluation[name] for name in ("temperature", "top_p", "top_k")},
        **{name: training[name] for name in ("stop", "stop_token_ids")},
    }
    for name, value in own.items():
        if config[name] is None:
            config[name] = value
    if held_out.problems is None:
        held_out.problems = evaluation.problems
    if held_out.completions_per_problem is None:
        held_out.completions_per_problem = evaluation.completions_per_problem
    held_out.source = run.problems.source
    return cfg


def run_config(run: Path) -> DictConfig:
    """Return a run's saved config.

    Raises:
        UserError: it is not there, or was written by a version whose keys had other names.
    """
    remedy = "give eval= and what else belongs to it, such as eval=math_suite"
    try:
        cfg = OmegaConf.load(run / "config.yaml")
    except (OSError, ValueError) as error:
        raise UserError("run", str(run), "has no readable config.yaml", remedy) from error
    assert isinstance(cfg, DictConfig)
    if older := older_key(cfg):
        raise UserError("run", str(run), f"was made by a version in which {older}", remedy)
    return cfg
