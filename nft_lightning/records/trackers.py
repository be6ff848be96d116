"""Experiment trackers beside ``metrics.csv``: Weights & Biases, MLflow and trackio.

Each gets the run's ``config.yaml``, which holds no secret, and every metric. None sends anything to
another host unless its config says so. A tracker cannot be cut back: what a resumed run repeats
appears there twice, and ``metrics.csv`` is the truth.
"""

from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from nft_lightning.errors import UserError
from nft_lightning.records.saved_config import leaves


def need(package: str, word: str, module: str = "") -> None:
    """Raise UserError, with the command that installs it, where a package is missing."""
    if importlib.util.find_spec(module or package) is None:
        raise UserError(
            "logger", word, f"needs {package}, which is not installed", f"run: pip install {package}"
        )


def kept_id(save_dir: str | Path, word: str) -> str:
    """Return the run's id at a tracker, the same after a resume: in ``tracker_WORD.txt`` of the run
    folder.
    """
    path = Path(save_dir) / f"tracker_{word}.txt"
    if path.exists():
        return path.read_text(encoding="utf-8").strip()
    made = uuid.uuid4().hex[:12]
    keep_id(save_dir, word, made)
    return made


@rank_zero_only
def keep_id(save_dir: str | Path, word: str, value: str) -> None:
    """Write what :func:`kept_id` reads."""
    path = Path(save_dir) / f"tracker_{word}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value + "\n", encoding="utf-8")


def saved_config(save_dir: str | Path) -> dict[str, Any]:
    """``config.yaml`` as dotted names; empty where there is none."""
    path = Path(save_dir) / "config.yaml"
    if not path.exists():
        return {}
    return dict(leaves(OmegaConf.to_container(OmegaConf.load(path), resolve=False)))


class WandbTracker(WandbLogger):
    """Weights & Biases.

    Args:
        save_dir: the run folder; ``wandb/`` below it holds what an offline run collected.
        offline: send nothing; ``wandb sync`` does later.
        project, name, entity: as there. The key is taken from WANDB_API_KEY or ``wandb login``.
    """

    def __init__(
        self,
        save_dir: str,
        project: str = "nft_lightning",
        name: str | None = None,
        entity: str | None = None,
        offline: bool = True,
    ) -> None:
        need("wandb", "wandb")
        import wandb

        # Metadata would hold the command line, where a secret may be.
        settings = wandb.Settings(x_disable_meta=True, disable_code=True, disable_git=True, silent=True)
        super().__init__(
            name=name or Path(save_dir).name,
            save_dir=save_dir,
            project=project,
            entity=entity,
            offline=offline,
            id=kept_id(save_dir, "wandb"),
            resume=None if offline else "allow",
            settings=settings,
        )
        self.folder = save_dir

    @rank_zero_only
    def log_graph(self, model: Any, *args: Any, **kwargs: Any) -> None:
        """Lightning's call when a loop begins, ``config.yaml`` being there: the config."""
        self.experiment.config.update(saved_config(self.folder), allow_val_change=True)


class MLflowTracker(MLFlowLogger):
    """MLflow.

    Args:
        save_dir: the run folder.
        tracking_uri: a database, or a server; MLflow reads its user and password from
            MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
        experiment, name: as there.

    Raises:
        UserError: MLflow is missing, or the address holds a password.
    """

    def __init__(
        self,
        save_dir: str,
        tracking_uri: str = "sqlite:///runs/mlflow.db",
        experiment: str = "nft_lightning",
        name: str | None = None,
    ) -> None:
        need("mlflow-skinny sqlalchemy alembic", "mlflow", "mlflow")
        if urlsplit(tracking_uri).password:
            raise UserError(
                "logger.mlflow.tracking_uri",
                "***",
                "holds a password",
                "put it into MLFLOW_TRACKING_PASSWORD, or give the address as ${oc.env:NAME}",
            )
        if tracking_uri.startswith("sqlite:///"):
            Path(tracking_uri.removeprefix("sqlite:///")).absolute().parent.mkdir(
                parents=True, exist_ok=True
            )
        path = Path(save_dir) / "tracker_mlflow.txt"
        super().__init__(
            experiment_name=experiment,
            run_name=name or Path(save_dir).name,
            tracking_uri=tracking_uri,
            artifact_location=(Path(save_dir).absolute() / "mlflow_artifacts").as_uri(),
            run_id=path.read_text(encoding="utf-8").strip() if path.exists() else None,
        )
        self.folder = save_dir

    @rank_zero_only
    def log_graph(self, model: Any, *args: Any, **kwargs: Any) -> None:
        """Lightning's call when a loop begins, ``config.yaml`` being there: the config."""
        keep_id(self.folder, "mlflow", str(self.run_id))
        known = self.experiment.get_run(self.run_id).data.params
        config = {k: v for k, v in saved_config(self.folder).items() if k not in known}
        self.log_hyperparams(config)


class TrackioTracker(Logger):
    """trackio, a local tracker of Hugging Face's with the calls of Weights & Biases.

    Args:
        save_dir: the run folder.
        project, name: as there.
        space_id: a Space on the hub to send to; None keeps everything on this machine.
    """

    def __init__(
        self,
        save_dir: str,
        project: str = "nft_lightning",
        name: str | None = None,
        space_id: str | None = None,
    ) -> None:
        need("trackio", "trackio")
        super().__init__()
        self.folder, self.project, self.space_id = save_dir, project, space_id
        self.id = kept_id(save_dir, "trackio")
        self.title = f"{name or Path(save_dir).name}_{self.id[:6]}"
        self.begun = False

    @property
    def name(self) -> str:
        """Return the project."""
        return self.project

    @property
    def version(self) -> str:
        """Return the run."""
        return self.title

    def begin(self) -> Any:
        """Return the package, a run begun."""
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
        import trackio

        if not self.begun:
            trackio.init(
                self.project,
                name=self.title,
                space_id=self.space_id,
                config=saved_config(self.folder),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            self.begun = True
        return trackio

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add values."""
        self.begin().log(dict(metrics), step=step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """They are in ``config.yaml``, which the run gets when it begins."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is queued; a later value begins the run again."""
        if self.begun:
            self.begin().finish()
            self.begun = False
