from __future__ import annotations

import math
import shutil

import pytest
import yaml

from nft_lightning.browse.records import Records
from nft_lightning.browse.scores import Scorer, Token, implicit_level, level, logprobs
from nft_lightning.browse.text import pieces, shortened, visible
from nft_lightning.errors import UserError
from nft_lightning.policy.loading import TinyModel
from nft_lightning.problems.prompts import prompt_ids
from tests.browse.made import TEXTS, direct_logprobs


def group_of(run):
    records = Records(run)
    index, group = records.locate("rollouts", "epoch_0000", 0)
    return records.completions(index, group)


def test_the_policy_that_wrote_has_ratio_one(run_folder):
    scored = Scorer(run_folder).tokens(("a",), "epoch_00000", group_of(run_folder))
    assert len(scored) == 4
    assert all(abs(t.log_ratio) < 1e-4 for row in scored for t in row)
    assert all(
        "".join(t.text for t in row).startswith(text) for row, text in zip(scored, TEXTS, strict=True)
    )


def test_another_policy_is_scored_by_its_own_weights(run_folder):
    from safetensors.torch import load_file

    rows = group_of(run_folder)
    scored = Scorer(run_folder).tokens(("a",), "epoch_00001", rows)
    policy = TinyModel().load(1.0)
    weights = load_file(run_folder / "checkpoints/epoch_00001/model.safetensors")
    policy.load_state_dict({k.removeprefix("policy."): v for k, v in weights.items()})
    for row, tokens in zip(rows, scored, strict=True):
        wanted = direct_logprobs(policy, row["token_ids"])
        assert [t.new for t in tokens] == pytest.approx(wanted, abs=1e-4)
    assert max(abs(t.log_ratio) for row in scored for t in row) > 0.05


def test_the_newest_policy_comes_first_and_the_export_can_be_asked(run_folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    policy = TinyModel().load(1.0)
    policy.model.save_pretrained(run / "export")
    policy.tokenizer.save_pretrained(run / "export")
    scorer = Scorer(run)
    assert [w.name for w in scorer.choices()] == ["export", "epoch_00001", "epoch_00000"]
    scored = scorer.tokens(("a",), "export", group_of(run))
    assert all(abs(t.log_ratio) < 1e-4 for row in scored for t in row)


@pytest.mark.parametrize("name", ["nothing", "../checkpoints/epoch_00000", "/etc", ""])
def test_only_policies_of_the_run(run_folder, name):
    with pytest.raises(UserError, match="is no policy of this run"):
        Scorer(run_folder).tokens(("a",), name, [])


def test_a_config_can_not_name_code_to_run(run_folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"] = {"_target_": "os.system", "command": f"touch {tmp_path}/ran"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="class of your own"):
        Scorer(run).tokens(("a",), "epoch_00000", group_of(run))
    assert not (tmp_path / "ran").exists()


def test_the_implicit_negative_policy():
    token = Token("x", -1.0, -1.0 + math.log(1.5))
    assert token.implicit_ratio(0.25) == pytest.approx((1 - 0.25 * 1.5) / 0.75)
    assert token.implicit_ratio(0.0) == 1
    assert token.implicit_ratio(1.0) is None
    assert token.implicit_ratio(0.75) < 0
    assert Token("x", -1.0, -1.0).implicit_ratio(0.5) == pytest.approx(1)


def test_levels():
    assert [level(x) for x in (0, 0.009, 0.01, -0.05, 0.3, -0.7, 9, -9)] == (
        ["n0", "n0", "u1", "d2", "u3", "d4", "u5", "d5"]
    )
    assert [implicit_level(x) for x in (None, 1.0, -0.1, 0.0, 3.0)] == ["n0", "n0", "x", "x", "u5"]


class Bytes:
    """A tokenizer of single bytes."""

    def decode(self, ids, **options):
        return bytes(ids).decode("utf-8", "replace")


def test_characters_of_several_tokens_belong_to_the_last():
    assert pieces(Bytes(), list("aé✓".encode())) == ["a", "", "é", "", "", "✓"]
    assert "".join(pieces(Bytes(), [0xFF] * 12 + [97])).endswith("a")


def test_what_can_not_be_seen_is_named():
    assert visible("a\u202eb\x00\x1b\u200b\n\tc") == "a<U+202E>b<U+0000><U+001B><U+200B>\n\tc"
    assert visible("naïve 中文 ✓") == "naïve 中文 ✓"
    assert shortened("abc", 3) == ("abc", 0)
    assert shortened("abcd", 3) == ("abc", 1)


def test_a_checkpoint_of_adapters_is_scored_with_the_weights_below_them(tmp_path):
    pytest.importorskip("peft")
    from nft_lightning.evaluation.trained import trained_model
    from tests.end_to_end.rank_runs import run_here

    words = ["policy.lora_rank=4", "optimizer.learning_rate=5e-3", "callbacks=default"]
    run_here(tmp_path, "run", words)
    run = tmp_path / "run"
    names = [w.name for w in Scorer(run).choices() if w.name != "export"]
    rows = group_of(run)
    scored = Scorer(run).tokens(("a",), names[0], rows)
    policy = trained_model(run, names[0]).load(1.0)
    prompt = prompt_ids(policy.tokenizer, rows[0]["problem"], "equals")
    base = TinyModel().load(1.0)
    moved = 0.0
    for row, tokens in zip(rows, scored, strict=True):
        new = [t.new for t in tokens]
        assert new == pytest.approx(logprobs(policy, prompt, row["token_ids"]), abs=1e-4)
        before = logprobs(base, prompt, row["token_ids"])
        moved = max(moved, *(abs(a - b) for a, b in zip(new, before, strict=True)))
    assert moved > 0.01
