"""The documentation site builds strictly: no dead link, anchor or page without a place."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

import nft_lightning
from tests.docs.pages import ROOT

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed: pip install '.[docs]'"
)


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_MKDOCS_2_WARNING": "1"}
    ended = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    configuration = (tmp_path / "configuration.html").read_text()
    for key in ("optimizer.learning_rate", "algorithm.negative_floor", "verifier.timeout_seconds"):
        assert f"<code>{key}</code>" in configuration
    api = (tmp_path / "api.html").read_text()
    for name in nft_lightning.__all__:
        assert f".{name}" in api, name
