"""What the code must never do with text that others wrote."""

from __future__ import annotations

import ast

import pytest

from nft_lightning.policy.loading import HFModel
from tests.test_house import ROOT, SOURCES

CALLS = {
    path: [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    for path in SOURCES
}


def name(call: ast.Call) -> str:
    return ast.unparse(call.func)


def keywords(call: ast.Call) -> dict[str, str]:
    return {k.arg: ast.unparse(k.value) for k in call.keywords if k.arg}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_reaches_a_shell_or_an_interpreter(path):
    for call in CALLS[path]:
        assert name(call) not in ("eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads")
        assert keywords(call).get("shell", "False") == "False", ast.unparse(call)
        if name(call) in ("torch.load", "load_from_checkpoint"):
            assert keywords(call).get("weights_only") == "True", ast.unparse(call)


def test_the_check_above_sees_calls():
    names = [name(call) for calls in CALLS.values() for call in calls]
    assert "torch.load" in names
    assert "subprocess.Popen" in names


def test_foreign_code_runs_only_where_it_is_named():
    assert HFModel("x").trust_remote_code is False
    for path, calls in CALLS.items():
        for call in calls:
            given = keywords(call).get("trust_remote_code")
            assert given in (None, "trust", "False", "self.trust_remote_code"), (path, given)


def test_only_safetensors_are_loaded():
    loads = [
        (path, call)
        for path, calls in CALLS.items()
        for call in calls
        if name(call).startswith("AutoModel") and name(call).endswith("from_pretrained")
    ]
    assert loads
    for path, call in loads:
        given = keywords(call)
        assert given.get("use_safetensors") == "True" or "gguf_file" in given, (path, ast.unparse(call))


def test_no_template_is_made_of_foreign_text():
    # Problem text may hold braces; ``str.format`` on it would read attributes.
    for path, calls in CALLS.items():
        assert [ast.unparse(c) for c in calls if name(c).endswith(".format")] == [], path
