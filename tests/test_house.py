"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "nft_lightning").rglob("*.py"))


def test_the_verification_worker_imports_no_torch():
    import subprocess
    import sys

    code = "import sys, nft_lightning.verifiers.sandbox.worker; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_a_deprecation_in_our_own_code_is_an_error():
    for module in ("nft_lightning.training.module", "tests.test_house"):
        with pytest.raises(DeprecationWarning):
            warnings.warn_explicit("old", DeprecationWarning, f"{module}.py", 1, module=module)


def test_each_room_has_its_tests_in_a_folder_of_its_name():
    across = {"architectures", "conformance", "contracts", "docs", "end_to_end"}
    across |= {"front", "golden", "resume"}
    rooms = {source.parent.name for source in SOURCES if source.parent.parent.name == "nft_lightning"}
    folders = {folder.parent.name for folder in (ROOT / "tests").glob("*/__init__.py")}
    assert folders - rooms == across


def definitions(node: ast.Module | ast.ClassDef, place: str) -> Iterator[tuple[str, ast.AST]]:
    """Public functions, classes and methods below ``node``, with where they are."""
    for found in node.body:
        if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if found.name.startswith("_"):
                continue
            name = f"{place} {found.name}"
            yield name, found
            if isinstance(found, ast.ClassDef):
                yield from definitions(found, name)


def untyped(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    missing = [a.arg for a in named if a.annotation is None and a.arg not in ("self", "cls")]
    return function.returns is None or bool(missing)


def test_every_public_name_is_typed_and_documented():
    bare = []
    for source in SOURCES:
        module = ast.parse(source.read_text())
        place = str(source.relative_to(ROOT))
        if not ast.get_docstring(module):
            bare.append(place)
        for name, found in definitions(module, place):
            if not ast.get_docstring(found):
                bare.append(name)
            if not isinstance(found, ast.ClassDef) and untyped(found):
                bare.append(name)
    assert bare == []


def documented_metrics() -> set[str]:
    rows = (
        line
        for line in (ROOT / "docs" / "metrics.md").read_text().splitlines()
        if line.startswith("| `")
    )
    return {name for row in rows for name in re.findall(r"`([a-z]+/[^`]+)`", row.split("|")[1])}


def test_the_shipped_policies_are_small():
    files = (ROOT / "nft_lightning" / "assets").rglob("*")
    assert sum(f.stat().st_size for f in files if f.is_file()) <= 5 * 2**20
