"""Where numbers come from: the commit of the code, the day, and the machine."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path

import torch

from nft_lightning.common.files import write_text_whole

PROVENANCE = "provenance.json"
PACKAGE = Path(__file__).resolve().parents[1]
CPU_INFO = Path("/proc/cpuinfo")


def provenance() -> dict[str, str]:
    """Return ``commit`` (where the package is a git checkout), ``date`` and ``machine``."""
    found = {"date": str(datetime.date.today()), "machine": machine()}
    commit = commit_of(PACKAGE)
    return {"commit": commit, **found} if commit else found


def add_start(folder: Path) -> None:
    """Add this start of a run to what its folder says of the earlier ones."""
    path = folder / PROVENANCE
    starts = json.loads(path.read_text()) if path.exists() else []
    write_text_whole(path, json.dumps([*starts, provenance()], indent=2) + "\n")


def commit_of(folder: Path) -> str | None:
    """Return the short hash, with ``, changed`` where tracked files differ; None without a checkout."""
    try:
        commit = git(folder, "rev-parse", "--short", "HEAD")
        changed = git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
        known = git(folder, "ls-files", "--", "__init__.py")
    except (OSError, subprocess.SubprocessError):
        return None
    if not known:
        return None  # installed into an environment that is within another project's checkout
    return f"{commit}, changed" if changed else commit


def git(folder: Path, *words: str) -> str:
    """Return what a git command prints."""
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def machine() -> str:
    """Return the processor, the number of cores, and the GPU if there is one."""
    parts = [processor(), f"{os.cpu_count()} cores"]
    if torch.cuda.is_available():
        parts.append(f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}")
    return ", ".join(parts)


def processor() -> str:
    """Return the processor's name as Linux knows it, elsewhere its architecture."""
    try:
        for line in CPU_INFO.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.machine()
