"""An alarm for a policy that falls apart."""

from __future__ import annotations

import logging
from typing import Any

import lightning as L

from nft_lightning.common.bounds import check_field
from nft_lightning.training.module import PolicyModule

log = logging.getLogger(__name__)
ACCURACY, ENTROPY = "rollout/accuracy", "policy/entropy_nats"
EFFECTIVE = "objective/effective_sample_fraction"
REMEDY = (
    "begin again from a checkpoint before that with a lower rate: nft-train "
    "resume=RUN/checkpoints/NAME optimizer.learning_rate=RATE resume_allow=[optimizer.learning_rate]"
)


class CollapseAlarm(L.Callback):
    """Warns, or ends the run, where one of three signs lasts for some rollouts.

    The accuracy of rollouts is far below its best; the entropy is far from that of the first rollout;
    or the ratios are so unequal that few samples carry the gradient.

    Args:
        action: ``warn`` once for each sign, or ``stop`` the run.
        rollouts: how many in a row must show the sign.
        accuracy_drop: how far below its best the accuracy of a rollout is; half of the best is enough.
        entropy_factor: how many times smaller or larger the entropy is than in the first rollout.
        least_effective_fraction: below which share of effective samples the ratios are too unequal.

    Raises:
        UserError: the action is not known.
    """

    def __init__(
        self,
        action: str = "warn",
        rollouts: int = 3,
        accuracy_drop: float = 0.2,
        entropy_factor: float = 100.0,
        least_effective_fraction: float = 0.2,
    ) -> None:
        check_field("callbacks.collapse.action", action, choices=("warn", "stop"))
        self.action, self.rollouts = action, rollouts
        self.accuracy_drop, self.entropy_factor = accuracy_drop, entropy_factor
        self.least_effective_fraction = least_effective_fraction
        self.best_accuracy = 0.0
        self.first_entropy: float | None = None
        self.in_a_row: dict[str, int] = {}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the rollout and the updates of the epoch that ends."""
        assert isinstance(pl_module, PolicyModule)
        rollout = pl_module.data.progress.rollout
        if rollout is None or not rollout.groups or pl_module.data.progress.pending:
            return
        for sign in self.lasting({**rollout.metrics, **pl_module.epoch_metrics()}):
            if trainer.is_global_zero:
                log.warning("%s; %s", sign, REMEDY)
            if self.action == "stop":
                trainer.should_stop = True

    def lasting(self, metrics: dict[str, float]) -> list[str]:
        """Return a sentence for each sign that has lasted for ``rollouts`` rollouts as of now."""
        signs = self.signs(metrics)
        self.in_a_row = {name: self.in_a_row.get(name, 0) + 1 for name in signs}
        return [
            f"{sentence} for {self.rollouts} rollouts"
            for name, sentence in signs.items()
            if self.in_a_row[name] == self.rollouts
        ]

    def signs(self, metrics: dict[str, float]) -> dict[str, str]:
        """Return what one rollout shows, by metric, and take note of its best and first values."""
        signs = {}
        accuracy, entropy = metrics.get(ACCURACY), metrics.get(ENTROPY)
        effective = metrics.get(EFFECTIVE)
        if accuracy is not None:
            self.best_accuracy = max(self.best_accuracy, accuracy)
            drop = min(self.accuracy_drop, self.best_accuracy / 2)
            if accuracy < self.best_accuracy and accuracy <= self.best_accuracy - drop:
                signs[ACCURACY] = (
                    f"{ACCURACY}={accuracy:.3f} has been at least {drop:.2g} below its best, "
                    f"{self.best_accuracy:.3f},"
                )
        if entropy is not None:
            first = self.first_entropy = self.first_entropy or entropy
            if not first / self.entropy_factor <= entropy <= first * self.entropy_factor:
                signs[ENTROPY] = (
                    f"{ENTROPY}={entropy:.3g} has been more than {self.entropy_factor:g} times away "
                    f"from its first value, {first:.3g},"
                )
        if effective is not None and effective < self.least_effective_fraction:
            signs[EFFECTIVE] = (
                f"{EFFECTIVE}={effective:.3f} has been below {self.least_effective_fraction}"
            )
        return signs

    def state_dict(self) -> dict[str, Any]:
        """Return what has been seen, so that a resumed run continues to count."""
        return {
            "best_accuracy": self.best_accuracy,
            "first_entropy": self.first_entropy,
            "in_a_row": dict(self.in_a_row),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with what :meth:`state_dict` gave."""
        self.best_accuracy = state_dict["best_accuracy"]
        self.first_entropy = state_dict["first_entropy"]
        self.in_a_row = dict(state_dict["in_a_row"])
