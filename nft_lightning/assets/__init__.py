"""The tiny policies that ship with the package, and the script that rebuilds them."""

from __future__ import annotations

from pathlib import Path

TINY_POLICIES = ("tiny", "tiny_unsure")


def tiny_policy_path(name: str) -> Path:
    """Return the folder of a shipped policy, loadable by ``AutoModelForCausalLM.from_pretrained``."""
    return Path(__file__).parent / name
