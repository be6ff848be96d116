"""``nft-eval run=RUN`` asks what the run asked: its held-out problems, prompt, verifier and length."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from nft_lightning.app.resume import expand_resume
from nft_lightning.app.run import run
from nft_lightning.app.run_prompt import check_prompt_file
from nft_lightning.browse.scores import Scorer
from nft_lightning.cli import evaluate as command
from nft_lightning.cli.entry import compose_or_explain
from nft_lightning.errors import UserError
from nft_lightning.evaluation.own import with_own_problems
from nft_lightning.evaluation.trained import CheckpointModel
from nft_lightning.policy.loading import HFModel, TinyModel
from nft_lightning.problems.prompts import PromptConfig

TEMPLATE = "{{ problem }}{{ '=' }}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short run on a file of problems with a Jinja template, the exact verifier and 20 tokens."""
    from hydra import compose, initialize_config_dir

    from nft_lightning.app.build import CONF_DIR

    folder = tmp_path_factory.mktemp("own")
    rows = [{"problem": f"{i}+{i % 5}", "answer": str(i + i % 5), "id": f"p{i}"} for i in range(60)]
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "mine.jinja").write_text(TEMPLATE)
    words = [
        "problems=jsonl",
        f"problems.path={folder / 'p.jsonl'}",
        f"problems.prompt.template={folder / 'mine.jinja'}",
        "problems.source.held_out_fraction=0.3",
        "verifier=exact",
        "rollout.max_new_tokens=20",
        "rollout.stop=['=9']",
        "rollout.problems_per_rollout=4",
        "rollout.completions_per_problem=2",
        "evaluation.problems=5",
        "evaluation.completions_per_problem=3",
        "evaluation.temperature=0.5",
        "batching.updates_per_rollout=1",
        "trainer.max_epochs=1",
        "algorithm=grpo",
        f"run_dir={folder / 'run'}",
    ]
    with initialize_config_dir(str(CONF_DIR.resolve())):
        run(compose("train", words))
    return folder


def composed(*arguments):
    return command.completed(compose_or_explain("evaluate", with_own_problems(list(arguments))))


def test_a_run_alone_means_its_own_problems():
    assert with_own_problems(["run=r"]) == ["run=r", "eval=run"]
    assert with_own_problems(["run=r", "eval=math_suite"]) == ["run=r", "eval=math_suite"]
    assert with_own_problems(["eval.temperature=1", "run=r"])[-1] == "eval=run"
    assert with_own_problems(["model=tiny"]) == ["model=tiny"]
    assert with_own_problems(["run=null"]) == ["run=null"]


def test_what_the_run_had_is_what_is_asked(trained, tmp_path):
    out = tmp_path / "out"
    cfg = composed(f"run={trained / 'run'}", f"out={out}")
    command.evaluate(
        compose_or_explain("evaluate", ["eval=run", f"run={trained / 'run'}", f"out={out}"])
    )
    plan = cfg.eval
    assert (plan.max_new_tokens, plan.temperature, plan.stop) == (20, 0.5, ["=9"])
    assert cfg.verifier._target_.endswith("ExactVerifier")
    rows = pq.read_table(out / "held_out" / "part_0000.parquet").to_pylist()
    asked = pq.read_table(next((trained / "run" / "evaluations").glob("*.parquet"))).to_pylist()
    assert {r["problem_id"] for r in rows} == {r["problem_id"] for r in asked}
    assert len(rows) == 15
    assert max(r["length_tokens"] for r in rows) <= 20
    (result,) = json.loads((out / "results.json").read_text())["sets"]
    assert (result["name"], result["k"], result["problems"]) == ("held_out", 3, 5)


def test_the_prompt_is_the_copy_in_the_run_folder(trained, tmp_path):
    assert (trained / "run" / "prompt.jinja").read_text() == TEMPLATE
    (trained / "mine.jinja").write_text("Now {{ problem }} is another")
    try:
        _, context = command.prepare(composed(f"run={trained / 'run'}"))
        tokenizer = TinyModel().inspect().tokenizer
        assert context.config.prompt.render(tokenizer, "3+4") == "3+4="
        prompt = PromptConfig(str(trained / "mine.jinja"))
        with pytest.raises(UserError, match="is not what it was when the run began"):
            check_prompt_file(prompt, trained / "run")
    finally:
        (trained / "mine.jinja").write_text(TEMPLATE)


def test_what_is_given_stays(trained):
    cfg = composed(
        f"run={trained / 'run'}",
        "eval.temperature=0",
        "eval.sets.held_out.problems=3",
        "eval.prompt.system=Sums",
        "verifier=numeric",
    )
    assert (cfg.eval.temperature, cfg.eval.max_new_tokens) == (0, 20)
    assert cfg.eval.sets.held_out.problems == 3
    assert cfg.eval.prompt.system == "Sums"
    assert cfg.eval.prompt.template.endswith("prompt.jinja")
    assert cfg.verifier._target_.endswith("NumericVerifier")


def test_a_run_without_a_file_any_more_is_named(trained, tmp_path):
    moved = trained / "gone.jsonl"
    (trained / "p.jsonl").rename(moved)
    try:
        with pytest.raises(UserError, match=r"p\.jsonl' is not a file"):
            command.prepare(composed(f"run={trained / 'run'}"))
    finally:
        moved.rename(trained / "p.jsonl")


def test_eval_run_without_a_run():
    with pytest.raises(UserError, match="eval='run' is of no run: add run=RUN_FOLDER"):
        composed("eval=run")
    with pytest.raises(UserError, match=r"run='nowhere' has no readable config.yaml"):
        composed("run=nowhere")


def test_a_run_of_an_earlier_version_is_one_sentence_everywhere(tmp_path):
    OmegaConf.save({"problems": {"prompt_template": "equals"}}, tmp_path / "config.yaml")
    (tmp_path / "command.json").write_text('{"overrides": ["problems.prompt_template=equals"]}')
    words = "a version in which problems.prompt.template was problems.prompt_template"
    with pytest.raises(UserError, match=words):
        composed(f"run={tmp_path}")
    with pytest.raises(UserError, match=words):
        expand_resume([f"resume={tmp_path}"])
    with pytest.raises(UserError, match=words):
        Scorer(tmp_path).prompt()


def test_a_checkpoint_is_of_its_models_type(tmp_path):
    """What an engine is asked before weights are read: the type they are stored in, and whose code."""
    base = HFModel(str(tmp_path), dtype="bfloat16", trust_remote_code=True, attention="eager")
    model = CheckpointModel(base, tmp_path)
    assert (model.dtype, model.trust_remote_code, model.attention) == ("bfloat16", True, "eager")
    assert not model.quantizes
