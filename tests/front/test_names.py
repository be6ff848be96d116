"""The names that a script imports: all there, lazy, documented, and used by the configs."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import nft_lightning
from nft_lightning.app.build import CONF_DIR

SOURCE = Path(nft_lightning.__file__).read_text()


def test_the_import_is_quick():
    code = (
        "import sys, nft_lightning; dir(nft_lightning); "
        "print([m for m in ('torch', 'lightning', 'transformers', 'numpy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_three_lists_agree():
    (block,) = [node for node in ast.parse(SOURCE).body if isinstance(node, ast.If)]
    typed = {alias.name: node.module for node in block.body for alias in node.names}
    lazy = {
        name: f"nft_lightning.{module}"
        for module, names in nft_lightning.ROOMS.items()
        for name in names.split()
    }
    assert typed == lazy
    assert sorted(typed) == sorted(nft_lightning.__all__)


@pytest.mark.parametrize("name", nft_lightning.__all__)
def test_every_name_is_documented_and_typed(name):
    found = getattr(nft_lightning, name)
    assert inspect.getdoc(found)
    function = found if inspect.isfunction(found) else found.__init__
    parameters = list(inspect.signature(function).parameters.values())[inspect.isclass(found) :]
    generic = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    assert all(p.annotation is not p.empty or p.kind in generic for p in parameters), parameters


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'NTF'"):
        _ = nft_lightning.NTF


def test_configs_name_public_classes_by_their_public_names():
    long = [f"nft_lightning.{m}.{n}" for m, names in nft_lightning.ROOMS.items() for n in names.split()]
    for path in CONF_DIR.rglob("*.yaml"):
        for line in path.read_text().splitlines():
            if "_target_" in line:
                assert not [name for name in long if name in line], (path, line)
