"""Log-probabilities of recorded tokens under a later policy of the run, and their colours."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError

from nft_lightning.app.build import build
from nft_lightning.app.run_prompt import older_key, prompt_node
from nft_lightning.browse.text import pieces
from nft_lightning.checkpoints.folder import complete
from nft_lightning.checkpoints.restored import restored
from nft_lightning.errors import UserError, first_line
from nft_lightning.policy.config import PolicyConfig
from nft_lightning.policy.loading import DTYPES, HFModel
from nft_lightning.policy.policy import Policy
from nft_lightning.problems.prompts import PromptConfig
from nft_lightning.types import TokenBatch

EXPORT = "export"
# By their public names, and as runs of earlier versions name them.
OWN_MODELS = ("nft_lightning.HFModel", "nft_lightning.SmolLM2Model", "nft_lightning.TinyModel")
OWN_ROOM = "nft_lightning.policy.loading."
OWN_CONFIGS = ("nft_lightning.PolicyConfig", "nft_lightning.policy.config.PolicyConfig")
MOST_TOKENS = 4096
KEPT_GROUPS = 32
STEPS = (0.01, 0.05, 0.2, 0.5, 1.0)
"""Absolute log-ratios at which the colour deepens."""


@dataclass(frozen=True)
class Weights:
    """A policy of the run: ``export``, or a checkpoint by its folder's name."""

    name: str
    told: str


@dataclass(frozen=True)
class Token:
    """One token: its text, both log-probabilities, and log R = new - old."""

    text: str
    old: float
    new: float

    @property
    def log_ratio(self) -> float:
        """Log of the ratio of the chosen policy to the one that wrote."""
        return self.new - self.old

    def implicit_ratio(self, accuracy: float) -> float | None:
        """``(1 - r_q R)/(1 - r_q)`` (arXiv 2505.18116, equation 10); None where r_q is 1."""
        if accuracy >= 1:
            return None
        return (1 - accuracy * math.exp(min(self.log_ratio, 50.0))) / (1 - accuracy)


def level(log_value: float) -> str:
    """``u5`` (far up) to ``u1``, ``n0``, ``d1`` to ``d5`` (far down): a class of the page's style."""
    step = sum(abs(log_value) >= s for s in STEPS)
    return f"{'n' if step == 0 else 'u' if log_value > 0 else 'd'}{step}"


def implicit_level(ratio: float | None) -> str:
    """As :func:`level` for a ratio; ``x`` where it is 0 or below and has no logarithm."""
    if ratio is None:
        return "n0"
    return "x" if ratio <= 0 else level(math.log(ratio))


class Scorer:
    """Loads one policy of the run at a time and keeps the last groups it scored."""

    def __init__(self, run: Path, device: str = "cpu") -> None:
        self.run, self.device = run, device
        self.lock = threading.Lock()
        self.loaded: tuple[tuple[str, int], Policy] | None = None
        self.scored: OrderedDict[tuple[Any, ...], list[list[Token]]] = OrderedDict()

    def choices(self) -> list[Weights]:
        """Return the policies that can be asked, the newest first."""
        found = [Weights(f.name, told(about)) for f, about in complete(self.run / "checkpoints")]
        if (self.run / EXPORT / "config.json").is_file():
            found.append(Weights(EXPORT, "the end of training"))
        return found[::-1]

    def config(self) -> DictConfig:
        """Return the run's own. Raises UserError where it is not there."""
        path = self.run / "config.yaml"
        try:
            loaded = OmegaConf.load(path)
        except Exception as error:
            raise UserError(
                "RUN", str(self.run), "has no readable config.yaml", "colours need it"
            ) from error
        assert isinstance(loaded, DictConfig)
        return loaded

    def prompt(self) -> PromptConfig:
        """Return the run's own. Raises UserError where its config is of an earlier version."""
        cfg = self.config()
        if older := older_key(cfg):
            problem, remedy = f"was made by a version in which {older}", "colours need a run of this one"
            raise UserError("RUN", str(self.run), problem, remedy)
        if OmegaConf.select(cfg, "problems.prompt") is None:
            return PromptConfig()
        found: PromptConfig = build(prompt_node(cfg, self.run), "problems.prompt")
        return found

    def tokens(
        self, key: tuple[Any, ...], weights: str, rows: Sequence[dict[str, Any]]
    ) -> list[list[Token]]:
        """Return tokens of each row under ``weights``, the first ``MOST_TOKENS`` of each.

        Args:
            key: distinguishes this group from others.
            weights: a name of :meth:`choices`.
            rows: of one group, with ``problem``, ``token_ids`` and ``engine_logprobs``.

        Raises:
            UserError: the policy cannot be loaded, or does not fit these tokens.
        """
        with self.lock:
            stamp = self.stamp(weights)
            if (found := self.scored.get((weights, stamp, *key))) is None:
                found = self.score(self.policy(weights, stamp), rows)
                self.scored[weights, stamp, *key] = found
                while len(self.scored) > KEPT_GROUPS:
                    self.scored.popitem(last=False)
            return found

    def stamp(self, weights: str) -> int:
        """When the weights were written. Raises UserError: the run has none of that name."""
        if weights not in [w.name for w in self.choices()]:
            raise UserError("weights", weights, "is no policy of this run", "choose one of the list")
        folder = self.run if weights == EXPORT else self.run / "checkpoints"
        return (folder / weights).stat().st_mtime_ns

    def policy(self, weights: str, stamp: int) -> Policy:
        """Loaded once; code that a model's author ships is never run."""
        if self.loaded and self.loaded[0] == (weights, stamp):
            return self.loaded[1]
        self.loaded = None
        cfg = self.config()
        temperature = float(OmegaConf.select(cfg, "rollout.temperature", default=1.0))
        dtype = str(OmegaConf.select(cfg, "model.dtype", default="float32"))
        if weights == EXPORT:
            policy = HFModel(str(self.run / EXPORT), dtype if dtype in DTYPES else "float32").load(
                temperature
            )
        else:
            policy = self.from_checkpoint(cfg, self.run / "checkpoints" / weights, temperature)
        policy.eval().to(self.device)
        self.loaded = ((weights, stamp), policy)
        return policy

    def from_checkpoint(self, cfg: DictConfig, folder: Path, temperature: float) -> Policy:
        """Return the run's model with the checkpoint's weights; no optimizer state is read."""
        model = str(OmegaConf.select(cfg, "model._target_", default=""))
        if model not in OWN_MODELS and not model.startswith(OWN_ROOM):
            raise UserError(
                "weights", folder.name, "belongs to a model class of your own", "choose export"
            )
        if str(OmegaConf.select(cfg, "policy._target_", default=OWN_CONFIGS[0])) not in OWN_CONFIGS:
            raise UserError(
                "weights", folder.name, "was trained by a class of your own", "choose export"
            )
        if "trust_remote_code" in cfg.model:
            cfg.model.trust_remote_code = False
        config = build(cfg.policy, "policy") if "policy" in cfg else PolicyConfig()
        try:
            return restored(build(cfg.model, "model"), config, folder, temperature)
        except (OSError, RuntimeError, KeyError, SafetensorError) as error:
            reason = first_line(error)
            raise UserError(
                "weights", folder.name, f"cannot be loaded ({reason})", "choose another"
            ) from error

    def score(self, policy: Policy, rows: Sequence[dict[str, Any]]) -> list[list[Token]]:
        """Row after row, so that memory holds one completion's logits."""
        prompt = self.prompt().encode(policy.tokenizer, rows[0]["problem"])
        found = []
        for row in rows:
            ids, old = row["token_ids"][:MOST_TOKENS], row["engine_logprobs"][:MOST_TOKENS]
            try:
                new = logprobs(policy, prompt, ids) if ids else []
            except (RuntimeError, IndexError) as error:
                reason = first_line(error)
                raise UserError(
                    "weights",
                    "chosen",
                    f"cannot score these tokens ({reason})",
                    "choose another policy",
                ) from error
            found.append([Token(*t) for t in zip(pieces(policy.tokenizer, ids), old, new, strict=True)])
        return found


def told(about: dict[str, Any]) -> str:
    """Return what a checkpoint's manifest says of its place in the run."""
    epochs, updates = about.get("epochs", "?"), about.get("updates")
    return f"after {epochs} epochs" + (f" and {updates} updates" if updates else "")


def logprobs(policy: Policy, prompt: Sequence[int], ids: Sequence[int]) -> list[float]:
    """Return log-probability of each of ``ids`` behind ``prompt``, as training takes it."""
    device = next(policy.parameters()).device
    whole = torch.tensor([[*prompt, *ids]], device=device)
    mask = torch.zeros(1, whole.shape[1] - 1, dtype=torch.bool, device=device)
    mask[:, len(prompt) - 1 :] = True
    nothing = torch.zeros(mask.shape, device=device)
    batch = TokenBatch(whole, torch.ones_like(whole), mask, nothing, nothing, {})
    with torch.inference_mode():
        values: list[float] = policy(batch).logprobs[0, len(prompt) - 1 :].tolist()
    return values
