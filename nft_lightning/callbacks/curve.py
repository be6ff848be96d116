"""The learning curve as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from nft_lightning.common.text import accuracy_name, metric_label
from nft_lightning.records.writing import check_write_rule, written
from nft_lightning.training.module import PolicyModule


class LearningCurve(L.Callback):
    """Writes ``curve.png``: held-out avg@k with its interval, and the response length."""

    def __init__(self, on_write_error: str = "continue") -> None:
        self.rule = check_write_rule(on_write_error, "callbacks.curve.on_write_error")
        self.points: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the points so far."""
        return {"points": list(self.points)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the saved points."""
        self.points = list(state_dict["points"])

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add a point and redraw."""
        assert isinstance(pl_module, PolicyModule)
        found = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("eval/")}
        found["problems"] = float(pl_module.data.progress.cursor)
        self.points.append(found)
        if trainer.is_global_zero and len(self.points) > 1:
            path = Path(trainer.default_root_dir) / "curve.png"
            with written(path, self.rule):
                draw(self.points, path)


def draw(points: list[dict[str, float]], path: Path) -> None:
    """Draw accuracy with its interval, and the response length, over the number of training problems."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from nft_lightning.common.pictures import STYLE, encoded, look, thousands

    name = accuracy_name(points[0])
    x = [p["problems"] for p in points]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot(x, [p[name] for p in points], **look(0))
        low, high = [p[name + "_low"] for p in points], [p[name + "_high"] for p in points]
        left.fill_between(x, low, high, color=look(0)["color"], alpha=0.15, linewidth=0)
        left.set(ylim=(0, 1.02), ylabel=metric_label(name))
        left.set_title("held-out accuracy, 95 % interval")
        right.plot(x, [p["eval/response_length_mean_tokens"] for p in points], **look(0))
        right.set(ylabel="tokens", ylim=(0, None))
        right.set_title("mean response length")
        for axis in (left, right):
            axis.set_xlabel("training problems")
            thousands(axis)
    path.write_bytes(encoded(figure, "png"))
