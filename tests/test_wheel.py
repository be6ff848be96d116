"""A wheel, installed away from the clone, still finds conf/ and the shipped policies."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


def test_the_installed_wheel_trains(tmp_path):
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "nft_lightning/conf/train.yaml" in names
    assert "nft_lightning/assets/tiny/model.safetensors" in names
    environment = tmp_path / "environment"
    # The dependencies come from this environment; the project itself only from the wheel.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    site = next((environment / "lib").glob("python*/site-packages"))
    here = next(p for p in sys.path if p.endswith("site-packages"))
    (site / "dependencies.pth").write_text(here + "\n")
    target = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(target, check=True, capture_output=True)
    code = "import nft_lightning.app.build as c; print(c.CONF_DIR)"
    python = str(environment / "bin" / "python")
    clean = {**os.environ, "OMP_NUM_THREADS": "1"}
    clean.pop("PYTHONPATH", None)
    found = subprocess.run([python, "-c", code], cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert found.stdout.strip() == str(site / "nft_lightning" / "conf"), found.stderr
    arguments = ["trainer.max_epochs=1", "rollout.problems_per_rollout=4", "evaluation.problems=4"]
    run = subprocess.run(
        [python, "-m", "nft_lightning.cli.train", *arguments, f"run_dir={tmp_path / 'run'}"],
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "run" / "summary.json").exists()
