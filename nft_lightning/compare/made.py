"""What the runs of a comparison were made with: commits, days, machines, commands and settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nft_lightning.compare.runs import Flat, Run
from nft_lightning.records.saved_config import within

# Where things are, and what does not decide the numbers.
PLACES = ("run_dir", "cold_start.folder")
ASIDE = (*PLACES, "seed", "resume", "resume_allow", "on_write_error", "logger", "callbacks", "hydra")


def made_with(runs: dict[str, list[Run]]) -> dict[str, Any]:
    """Return for all runs ``commits``, ``dates``, ``machines`` and ``versions``, and by label the rest.

    ``overrides`` and ``settings`` are those of a label's first run. Composed again, the overrides give
    the settings as long as neither the defaults nor the names of the config have changed.
    """
    every = [run for group in runs.values() for run in group]
    starts = [start for run in every for start in run.provenance]
    return {
        "commits": distinct([start.get("commit", "unknown") for start in starts]),
        "dates": distinct([start["date"] for start in starts]),
        "machines": distinct([start["machine"] for start in starts]),
        "versions": {k: v for k, v in every[0].versions.items() if k != "conditions"},
        "overrides": {label: overrides_of(group[0]) for label, group in runs.items()},
        "settings": {label: settings_of(group[0].config) for label, group in runs.items()},
    }


def distinct(values: Sequence[str]) -> list[str]:
    """Return the different ones, sorted."""
    return sorted(set(values))


def overrides_of(run: Run) -> list[str]:
    """Return the command's overrides without those that say where things are."""
    return [word for word in run.overrides if word.partition("=")[0] not in (*PLACES, "resume")]


def settings_of(config: Flat) -> Flat:
    """Return the settings that decide a run's numbers, by dotted name.

    A model that a cold start made is left out: its settings are those of the cold start.
    """
    aside = [*ASIDE, "model"] if any(within(name, ["cold_start"]) for name in config) else ASIDE
    return {name: value for name, value in config.items() if not within(name, aside)}


def sentence(made: dict[str, Any]) -> str:
    """Return one line for people; empty where the runs do not say."""
    parts = [", ".join(made[key]) for key in ("dates", "machines")]
    commits = ", ".join(made["commits"])
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    return f"Commit {commits}; {'; '.join(parts)}; {versions}." if made["dates"] else ""
