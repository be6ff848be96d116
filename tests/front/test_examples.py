"""Every example runs as it is printed."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from tests.docs.pages import blocks
from tests.processes import cli

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TUTORIAL = "docs/tutorials/own_data_and_model.md"

pytestmark = pytest.mark.slow


def run(script: Path, folder: Path) -> str:
    result = cli(module=str(script), cwd=folder, timeout=500)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_the_script_learns_under_stock_callbacks(tmp_path):
    run(EXAMPLES / "own_script.py", tmp_path)
    (table,) = tmp_path.glob("runs/own_script/**/metrics.csv")
    with open(table) as file:
        rows = list(csv.DictReader(file))
    found = [float(row["eval/avg_at_8"]) for row in rows if row["eval/avg_at_8"]]
    assert found[-1] - found[0] >= 0.2, found
    assert len(found) == 5
    assert list(tmp_path.glob("runs/own_script/**/*.ckpt"))


def test_the_script_is_short():
    script = (EXAMPLES / "own_script.py").read_text().rpartition('"""')[2]
    assert len([line for line in script.splitlines() if line.strip()]) <= 20


def test_the_page_shows_the_whole_script():
    page = (ROOT / "docs" / "python.md").read_text()
    assert (EXAMPLES / "own_model.py").read_text().strip() in page


def test_own_model_and_problems_to_a_curve_and_a_folder(tmp_path):
    """With the files that the tutorial makes."""
    (made,) = [b for b in blocks("python") if b.page == TUTORIAL and '"train.jsonl"' in b.text]
    subprocess.run([sys.executable, "-c", made.text], cwd=tmp_path, check=True)
    run(EXAMPLES / "own_model.py", tmp_path)
    with open(tmp_path / "runs" / "own_model" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    curve = [float(row["eval/avg_at_4"]) for row in rows if row["eval/avg_at_4"]]
    assert len(curve) == 10  # before, after each epoch, and of the best
    assert curve[-1] == max(curve[1:])
    assert curve[-1] - curve[0] >= 0.2, curve
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "runs" / "own_model" / "export")
    assert sum(p.numel() for p in model.parameters()) == 878_976


@pytest.mark.parametrize("name", ["own_reward", "own_algorithm"])
def test_a_part_of_ones_own(name, tmp_path):
    said = run(EXAMPLES / f"{name}.py", tmp_path)
    assert re.search(r"avg@4 is 0\.\d\d", said), said


def test_the_notebook(tmp_path):
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text())
    if importlib.util.find_spec("nbclient") and importlib.util.find_spec("ipykernel"):
        import nbformat
        from nbclient import NotebookClient

        NotebookClient(nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)).execute()
        return
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    script = tmp_path / "cells.py"
    script.write_text("\n\n".join(cells) + "\n")
    assert "avg@4 went from" in run(script, tmp_path)
