"""The paper's experiments: their numbers, two updates of each on several ranks, and their plans."""

from __future__ import annotations

import json

import pytest
from omegaconf import OmegaConf

from nft_lightning.app.build import CONF_DIR, build, options_of
from nft_lightning.cli.entry import compose_or_explain
from nft_lightning.errors import UserError
from nft_lightning.planning.plan import as_data, plan_of
from nft_lightning.problems.exclusion import SHIPPED, text_hash
from tests.end_to_end.tiny_qwen2 import save_tiny_qwen2
from tests.forked_ranks import run_ranks

ALGORITHMS = ("nft", "rft", "dapo", "grpo", "dr_grpo", "infonca")
MODELS = ("qwen2.5_math_7b", "qwen2.5_32b")
# What docs/paper.md says to type beside experiment= and algorithm=.
OTHERS = {
    ("qwen2.5_math_7b", "grpo"): ["trainer.max_epochs=580"],
    ("qwen2.5_math_7b", "dr_grpo"): ["trainer.max_epochs=580"],
    ("qwen2.5_32b", "grpo"): ["trainer.max_epochs=580"],
    ("qwen2.5_32b", "dr_grpo"): ["trainer.max_epochs=580"],
    ("qwen2.5_32b", "infonca"): ["rollout.completions_per_problem=4"],
}
RUNS = [(model, algorithm) for model in MODELS for algorithm in ALGORITHMS]
# What train_7B.sh and train_32B.sh share, by where it stands here.
OFFICIAL = {
    "optimizer.learning_rate": 1e-6,
    "optimizer.beta1": 0.9,
    "optimizer.beta2": 0.999,
    "optimizer.weight_decay": 0.1,
    "optimizer.clip_grad_norm": 1.0,
    "rollout.problems_per_rollout": 512,
    "rollout.completions_per_problem": 16,
    "rollout.max_generation_rounds": 10,
    "rollout.temperature": 1.0,
    "rollout.top_p": 1.0,
    "rollout.top_k": 0,
    "rollout.engine.tensor_parallel_size": 4,
    "batching.updates_per_rollout": 16,
    "evaluation.temperature": 0.6,
    "evaluation.top_p": 0.7,
    "verifier.extract": "official",
    "trainer.precision": "bf16-mixed",
    "trainer.devices": 8,
    "problems.exclude": "dapo_math_17k",
}
OF_MODEL = {
    "qwen2.5_math_7b": {
        "model.path": "Qwen/Qwen2.5-Math-7B",
        "rollout.max_new_tokens": 3584,
        "rollout.engine.max_model_len": 4096,
        "rollout.engine.gpu_memory_utilization": 0.7,
        "trainer.num_nodes": 4,
    },
    "qwen2.5_32b": {
        "model.path": "Qwen/Qwen2.5-32B",
        "rollout.max_new_tokens": 14336,
        "rollout.engine.max_model_len": 16384,
        "rollout.engine.gpu_memory_utilization": 0.6,
        "trainer.num_nodes": 16,
    },
}
CLIP = {"clip_low": 0.2, "clip_high": 0.28, "reduction": "token_mean"}
OF_ALGORITHM = {
    "nft": {
        "negative_floor": 1.0,
        "negative_weight": 1.0,
        "prompt_weight": "one_minus_accuracy",
        "accuracy_clamp": [0.02, 0.98],
        "clamp_right": True,
        "reduction": "sum_per_1000",
    },
    "rft": {
        "negative_weight": 0.0,
        "prompt_weight": "one",
        "clamp_right": True,
        "reduction": "sum_per_1000",
    },
    "dapo": {**CLIP, "normalize_std": True, "drop_uniform_groups": True},
    "grpo": {**CLIP, "normalize_std": True, "drop_uniform_groups": False},
    "dr_grpo": {**CLIP, "normalize_std": False, "drop_uniform_groups": False},
    "infonca": {"beta": 0.1, "sft_coefficient": 0.1, "reduction": "sequence_mean"},
}


def words(model: str, algorithm: str) -> list[str]:
    """One of the paper's runs, as it is typed."""
    return [f"experiment={model}", f"algorithm={algorithm}", *OTHERS.get((model, algorithm), [])]


def test_every_preset_is_tested():
    others = {"arithmetic_compare", "smollm2_stories", "small_model", "cpu_model", "gsm8k_qwen2.5_0.5b"}
    assert set(options_of("experiment")) - others == set(MODELS)
    folder = CONF_DIR / "experiment" / "paper"
    found = {path.stem for path in folder.glob("algorithm*/*.yaml")}
    assert found == set(ALGORITHMS)


@pytest.mark.parametrize(("model", "algorithm"), RUNS)
def test_its_numbers_are_the_official_ones(compose_config, model, algorithm):
    cfg = compose_config(*words(model, algorithm))
    expected = {**OFFICIAL, **OF_MODEL[model]}
    if (model, algorithm) == ("qwen2.5_32b", "infonca"):
        expected["rollout.completions_per_problem"] = 4
    assert {key: OmegaConf.select(cfg, key) for key in expected} == expected
    own = OF_ALGORITHM[algorithm]
    assert {key: OmegaConf.to_container(cfg.algorithm)[key] for key in own} == own
    assert cfg.algorithm.kl_coefficient == cfg.algorithm.entropy_coefficient == 0
    # The official warm-up is 10 rollouts.
    assert cfg.optimizer.warmup_updates == 10 * cfg.batching.updates_per_rollout
    assert cfg.trainer.max_epochs == (580 if algorithm.endswith("grpo") else 320)
    overlong = 4096 / 14336 if (model, algorithm) == ("qwen2.5_32b", "dapo") else 0.0
    assert cfg.algorithm.get("overlong_buffer_fraction", 0.0) == pytest.approx(overlong, abs=1e-3)


@pytest.mark.parametrize("model", MODELS)
def test_nft_is_the_official_code(compose_config, model):
    official = compose_config(f"experiment={model}", "algorithm=nft_official")
    assert compose_config(f"experiment={model}") == official


@pytest.mark.parametrize("model", MODELS)
def test_the_algorithm_changes_its_own_node_alone(compose_config, model):
    def rest(algorithm: str):
        cfg = compose_config(f"experiment={model}", f"algorithm={algorithm}")
        found = OmegaConf.to_container(cfg, resolve=False)
        del found["algorithm"]
        return found

    for algorithm in options_of("algorithm"):
        assert rest(algorithm) == rest("nft")


@pytest.mark.parametrize("model", MODELS)
def test_other_algorithms_keep_their_own_settings(compose_config, model):
    for algorithm in set(options_of("algorithm")) - set(ALGORITHMS):
        found = compose_config(f"experiment={model}", f"algorithm={algorithm}").algorithm
        assert found == compose_config(f"algorithm={algorithm}").algorithm


def test_what_is_typed_wins(compose_config):
    assert (
        compose_config(*words("qwen2.5_32b", "dapo"), "algorithm.clip_high=0.3").algorithm.clip_high
        == 0.3
    )


@pytest.mark.parametrize(("model", "algorithm"), RUNS)
def test_names_of_earlier_versions_are_refused(model, algorithm):
    old, now = f"{algorithm}_{model}", " ".join(words(model, algorithm))
    with pytest.raises(UserError) as caught:
        compose_or_explain("train", [f"experiment={old}"])
    assert str(caught.value) == f"experiment='{old}' has another name now: use {now}."


@pytest.mark.parametrize(("model", "algorithm"), RUNS)
def test_it_fits_where_it_ran(model, algorithm):
    found = as_data(plan_of(compose_or_explain("plan", words(model, algorithm))))
    assert found["gpu"] == "h100"
    assert found["gpus"] == (128 if model == "qwen2.5_32b" else 32)
    assert found["fits"], found["remedy"]


@pytest.mark.parametrize("engine", ["hf", "vllm_server"])
def test_another_engine_takes_its_place(engine):
    typed = ["experiment=qwen2.5_math_7b", f"rollout={engine}"]
    found = as_data(plan_of(compose_or_explain("plan", typed)))
    assert found["iteration"]["completions"] > 512 * 16


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen2")
    save_tiny_qwen2(folder, [f"What is {i} plus {i * 7}?" for i in range(200)])
    return folder


def even_length(prediction: str, gold: str) -> bool:
    """A verdict that random answers get both ways."""
    return sum(map(ord, prediction)) % 2 == 0


def ranks(count, *given):
    """``preset_runs`` with so many ranks."""
    result = run_ranks(count, "tests.end_to_end.preset_runs", *map(str, given))
    assert result.returncode == 0, result.stderr[-4000:]


@pytest.mark.slow
def test_every_preset_starts_with_its_own_trainer_and_engine(qwen2, tmp_path):
    """Four ranks as two copies of two, each a tiny model of the same architecture."""
    rows = [{"problem": f"What is {i} plus 1?", "answer": str(i + 1)} for i in range(300)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "problems.jsonl").write_text(text)
    ranks(4, "presets", tmp_path, qwen2, *(" ".join(words(*run)) for run in RUNS))
    for number in range(len(RUNS)):
        folder = tmp_path / str(number)
        config = OmegaConf.load(folder / "config.yaml")
        assert config.trainer.strategy == "fsdp2"
        assert config.trainer.precision == "bf16-mixed"
        assert config.rollout.engine._target_.endswith("VLLMEngineConfig")
        assert json.loads((folder / "summary.json").read_text())["updates"] == 2


@pytest.mark.slow
def test_eight_ranks_are_two_copies_of_four(tmp_path):
    ranks(8, "layout", tmp_path, 2)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(8)]
    assert [f["ranks"] for f in found] == [[0, 1, 2, 3]] * 4 + [[4, 5, 6, 7]] * 4
    assert len({tuple(f["mine"]) for f in found[:4]}) == len({tuple(f["mine"]) for f in found[4:]}) == 1
    assert sorted([*found[0]["mine"], *found[4]["mine"]]) == list(range(11))


@pytest.mark.parametrize("path", ["file", "other_ids"])
def test_problems_of_the_test_sets_never_come(compose_config, data_folder, tmp_path, path):
    original = data_folder / "math_train" / "dapo_math_17k.jsonl"
    lines = [json.loads(line) for line in original.open(encoding="utf-8")]
    file = original
    if path == "other_ids":  # as a hub's data set: its rows are known by text alone
        file = tmp_path / "renamed.jsonl"
        texts = ({"problem": f" {row['problem'].upper()}", "answer": row["answer"]} for row in lines)
        file.write_text("".join(json.dumps(row) + "\n" for row in texts), encoding="utf-8")
    cfg = compose_config("experiment=qwen2.5_32b", f"problems.path={file}")
    source = build(cfg.problems.source, "problems.source")
    listed = (SHIPPED / "dapo_math_17k.txt").read_text().splitlines()
    ids = {line.split()[0] for line in listed if not line.startswith("#")}
    removed = {text_hash(row["problem"]) for row in lines if row["id"] in ids}
    assert len(ids) == 31
    assert len(source.problems) == len(lines) - 31
    assert not removed & {text_hash(p.text) for p in source.problems}
    assert not removed & {text_hash(source.problem(i, 0).text) for i in range(500)}
    tests = {
        text_hash(json.loads(line)["problem"])
        for file in (data_folder / "math_eval").glob("*.jsonl")
        for line in file.open(encoding="utf-8")
    }
    assert not tests & {text_hash(p.text) for p in source.problems}
