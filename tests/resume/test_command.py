"""What ``resume=`` accepts, refuses and leaves in the run folder."""

from __future__ import annotations

import json

import pytest
from omegaconf import OmegaConf

from nft_lightning.app import run as running
from nft_lightning.app.build import CONF_DIR
from nft_lightning.app.resume import expand_resume, find, kept_overrides
from nft_lightning.checkpoints.folder import checkpoints, read_manifest, write_checkpoint
from nft_lightning.errors import UserError
from nft_lightning.records.saved_config import MASKED, check_agreement, without_secrets
from tests.processes import cli
from tests.resume.conftest import brief


@pytest.fixture
def begun(tmp_path):
    """A folder as a run leaves it that was begun with two overrides."""
    folder = tmp_path / "it's a run"
    folder.mkdir()
    command = {"overrides": ["algorithm=grpo", "seed=3", "trainer.max_epochs=4"]}
    (folder / "command.json").write_text(json.dumps(command))
    (folder / "config.yaml").write_text(
        OmegaConf.to_yaml(brief("algorithm=grpo", "seed=3", "run_dir=x"))
    )
    return folder


def test_the_folder_alone_is_the_command_that_began_it(begun):
    path = str(begun).replace("'", "\\'")
    quoted = f"run_dir='{path}'"
    assert expand_resume([f"resume={begun}"]) == [
        "algorithm=grpo",
        "seed=3",
        "trainer.max_epochs=4",
        quoted,
        "resume=auto",
    ]
    more = expand_resume(["trainer.max_epochs=9", f"resume={begun}"])
    assert more == ["algorithm=grpo", "seed=3", "trainer.max_epochs=9", quoted, "resume=auto"]
    assert expand_resume(["seed=1"]) == ["seed=1"]
    assert expand_resume(["resume=null"]) == ["resume=null"]


def test_what_can_not_be_resumed(begun, tmp_path):
    with pytest.raises(UserError, match="holds no run: give the folder of a run"):
        expand_resume([f"resume={tmp_path}"])
    with pytest.raises(UserError, match="add run_dir=FOLDER"):
        expand_resume(["resume=auto"])
    with pytest.raises(UserError, match="no effect with resume=FOLDER"):
        expand_resume([f"resume={begun}", "run_dir=y"])
    (begun / "command.json").unlink()
    with pytest.raises(UserError, match="give that command again with run_dir"):
        expand_resume([f"resume={begun}"])


def test_a_changed_key_is_refused_with_the_difference(begun):
    same = brief("algorithm=grpo", "seed=3", "run_dir=y", "trainer.max_epochs=99", "logger=csv")
    check_agreement(same, begun / "config.yaml")
    check_agreement(brief("algorithm=grpo", "seed=3", "trainer=ddp", "run_dir=y"), begun / "config.yaml")
    other = brief("algorithm=grpo", "seed=4", "optimizer.learning_rate=0.5", "run_dir=y")
    with pytest.raises(UserError) as caught:
        check_agreement(other, begun / "config.yaml")
    assert "optimizer.learning_rate 0.0002 -> 0.5; seed 3 -> 4" in str(caught.value)
    assert "trainer" not in str(caught.value)


def test_a_half_written_checkpoint_is_never_found(begun):
    cfg = brief(
        "algorithm=grpo", "seed=3", f"run_dir='{str(begun).replace(chr(39), chr(92) + chr(39))}'"
    )
    cfg.resume = "auto"
    assert find(cfg).checkpoint is None
    parent = begun / "checkpoints"
    write_checkpoint(parent / "epoch_00001", {"state_dict": {}}, {"epochs": 1})
    write_checkpoint(parent / "epoch_00002", {"state_dict": {}}, {"epochs": 2})
    (parent / "epoch_00002" / "manifest.json").unlink()
    (parent / ".partial-epoch_00003").mkdir()
    found = find(cfg)
    assert found.checkpoint == parent / "epoch_00001"
    assert [p.name for p, _ in found.damaged] == ["epoch_00002"]
    assert found.position == (1, 0)


def test_half_an_epoch_of_one_process_is_not_shared(begun):
    cfg = brief("algorithm=grpo", "seed=3")
    cfg.run_dir, cfg.resume = str(begun), "auto"
    parent = begun / "checkpoints"
    write_checkpoint(parent / "epoch_00001", {"state_dict": {}}, {"epochs": 1, "updates": None})
    cfg.trainer.devices = 2
    assert find(cfg).position == (1, 0)
    about = {"epochs": 1, "updates": 2}
    write_checkpoint(parent / "epoch_00001_update_0002", {"state_dict": {}}, about)
    with pytest.raises(UserError, match=r"than the 1 that wrote .*trainer.devices=1"):
        find(cfg)
    cfg.trainer.devices = 1
    assert find(cfg).position == (1, 2)


@pytest.mark.slow
def test_a_finished_run_says_so_and_is_left_alone(tmp_path):
    run = tmp_path / "run"
    running.run(brief(f"run_dir={run}", "trainer.max_epochs=2"), ["trainer.max_epochs=2", "run_dir=x"])
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file() and p.name != ".lock"}
    settings = [o for o in brief_overrides() if not o.startswith("trainer.max_epochs")]
    command = [*settings, "trainer.max_epochs=2", f"run_dir={run}"]
    again = cli(*command, "resume=auto")
    assert again.returncode == 0, again.stderr
    assert "is finished: 2 of 2 epochs; more trainer.max_epochs would continue it." in again.stdout
    after = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file() and p.name != ".lock"}
    assert {p: t for p, t in after.items() if p.name != "nft-train.log"} == {
        p: t for p, t in before.items() if p.name != "nft-train.log"
    }
    refused = cli(*command)
    assert refused.returncode == 2
    assert f"continue it with resume={run}" in refused.stderr
    changed = cli(*command, "resume=auto", "seed=9")
    assert changed.returncode == 2
    assert "seed 0 -> 9" in changed.stderr


def brief_overrides():
    from tests.resume.conftest import SETTINGS

    return SETTINGS


@pytest.mark.slow
def test_the_last_and_the_best_are_kept(tmp_path):
    running.run(brief(f"run_dir={tmp_path}", "trainer.max_epochs=5", "evaluation.every_epochs=1"))
    parent = tmp_path / "checkpoints"
    kept = checkpoints(parent)
    scores = {p.name: read_manifest(p)["score"] for p in kept}
    assert {"epoch_00004", "epoch_00005"} <= scores.keys()
    assert len(kept) in (2, 3)
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("eval/avg_at_2")
    seen = [float(r.split(",")[column]) for r in rows[2:] if r.split(",")[column]]
    assert max(scores.values()) == max(seen)
    assert (parent / "last").resolve().name == "epoch_00005"
    assert scores[(parent / "best").resolve().name] == max(seen)


def test_secrets_stay_out_of_the_folder(monkeypatch):
    monkeypatch.setenv("SERVICE_KEY", "very-secret-1")
    cfg = OmegaConf.create(
        {
            "engine": {"url": "https://user:very-secret-1@host", "key": "${oc.env:SERVICE_KEY}"},
            "logger": {"api_key": "very-secret-2", "copy": "${engine.key}", "hf_token": "very-secret-3"},
            "rollout": {"max_new_tokens": 64, "level": "token", "prompt_tokens": 3},
            "list": [{"password": "very-secret-4"}],
        }
    )
    saved = without_secrets(cfg)
    text = OmegaConf.to_yaml(OmegaConf.create(saved))
    assert "very-secret" not in text
    assert saved["engine"]["key"] == "${oc.env:SERVICE_KEY}"
    assert saved["engine"]["url"] == f"https://user:{MASKED}@host"
    assert saved["logger"]["hf_token"] == saved["list"][0]["password"] == MASKED
    assert saved["rollout"] == {"max_new_tokens": 64, "level": "token", "prompt_tokens": 3}
    given = ["+logger.api_key=abc", "engine.key=${oc.env:SERVICE_KEY}", "seed=1", "run_dir=x"]
    assert kept_overrides(given) == ["engine.key=${oc.env:SERVICE_KEY}", "seed=1"]


@pytest.mark.slow
def test_configs_and_paths_of_ones_own_are_found_again(tmp_path, monkeypatch):
    """An algorithm of one's own, and problems given relative to where the command was typed."""
    own = tmp_path / "conf" / "algorithm"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text((CONF_DIR / "algorithm" / "grpo.yaml").read_text())
    rows = "".join(json.dumps({"problem": f"{i}+1", "answer": str(i + 1)}) + "\n" for i in range(200))
    (tmp_path / "sums.jsonl").write_text(rows)
    monkeypatch.chdir(tmp_path)
    words = ["algorithm=mine", "problems=jsonl", "problems.path=sums.jsonl", "run_dir=run"]
    begun = cli("--config-dir", "conf", *words, "problems.prompt.template=equals", *brief_overrides())
    assert begun.returncode == 0, begun.stderr
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    resumed = cli("resume=../run", "trainer.max_epochs=5")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["epochs"] == 5
    assert list(elsewhere.iterdir()) == []
