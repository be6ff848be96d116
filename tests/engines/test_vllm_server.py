"""Real vLLM servers on loopback: equality with the HF engine, and servers that are killed."""

from __future__ import annotations

import json
import threading
import urllib.request

import pyarrow.parquet as pq
import pytest
import torch

from nft_lightning.app import run as running
from nft_lightning.engines.base import EngineError, SyncError
from nft_lightning.engines.hf.engine import HFEngine
from nft_lightning.engines.vllm_server import engine as vllm_server
from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.errors import RunStoppedError
from nft_lightning.policy.loading import TinyModel
from nft_lightning.rollouts.sync_check import SyncCheck
from nft_lightning.types import Sampling
from tests.engines.shared import ServedVLLM, served_engine, shared_vllm_server
from tests.processes import cli

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
FAST = ("optimizer.learning_rate=3e-3", "callbacks=none", "logger=csv", "evaluation.every_epochs=2")


def prompts_of(policy):
    return [
        tuple(policy.tokenizer.encode(f"{a}+{b}-3=", add_special_tokens=False))
        for a in range(1, 8)
        for b in range(1, 6)
    ]


def post(address, path, body):
    request = urllib.request.Request(
        address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    return urllib.request.urlopen(request, timeout=60).read()


@pytest.fixture
def train(compose_config, quick, tmp_path):
    """Two epochs in this process with the given servers."""

    def start(*addresses, wait=120, overrides=()):
        listed = f"rollout.engine.addresses=[{','.join(addresses)}]"
        settings = ("rollout=vllm_server", listed, f"run_dir={tmp_path / 'run'}", *quick, *FAST)
        patience = (f"rollout.engine.wait_for_server_seconds={wait}",)
        return running.run(compose_config(*settings, *patience, *overrides))

    return start


@pytest.fixture
def after_answers(monkeypatch):
    """Do something once so many completions of the second epoch's rollout were answered."""

    def arrange(count, act):
        real, met = vllm_server.ask, []

        def ask(server, request, label, seconds):
            written = real(server, request, label, seconds)
            if label.endswith("/2") and len(request.seeds) > 1:
                met.append(server.address)
                if len(met) == count:
                    act()
            return written

        monkeypatch.setattr(vllm_server, "ask", ask)
        return met

    return arrange


def test_greedy_completions_are_those_of_the_hf_engine():
    policy = TinyModel().load(1.0)
    written = []
    for either in (HFEngine(policy.model, policy.tokenizer), served_engine(policy)):
        either.load_weights(full_tensors(policy.model), 1)
        prompts = prompts_of(policy)
        groups = either.generate(prompts, Sampling(0.0, 40), [[0]] * len(prompts))
        written.append([g[0].token_ids.tolist() for g in groups])
    assert written[0] == written[1]


def test_a_server_of_another_type_is_refused():
    policy = TinyModel().load(1.0)
    with pytest.raises(SyncError, match=r"computes in float32 .*: start it with --dtype bfloat16"):
        served_engine(policy, dtype="bfloat16").load_weights(full_tensors(policy.model), 1)
    engine = served_engine(policy, dtype="float32")
    engine.load_weights(full_tensors(policy.model), 1)
    assert SyncCheck().check(engine, policy, [tuple(range(5, 77))], 1) < 1e-3


def test_a_run_from_the_command_line(tmp_path, quick):
    address = shared_vllm_server().address
    run = tmp_path / "run"
    result = cli(
        "rollout=vllm_server",
        f"rollout.engine.addresses=[{address}]",
        f"run_dir={run}",
        "callbacks.progress=null",
        *quick,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads((run / "summary.json").read_text())["updates"] == 4


def test_weights_that_the_server_lost_are_not_used():
    policy = TinyModel().load(1.0)
    engine = served_engine(policy)
    engine.load_weights(full_tensors(policy.model), 1)
    post(shared_vllm_server().address, "/update_weight_version", {"new_version": "default"})
    with pytest.raises(EngineError, match="wrote with weights 'default'"):
        engine.generate(prompts_of(policy), Sampling(0.0, 4), [[0]] * 35)
    engine.recover_with(lambda: engine.load_weights(full_tensors(policy.model), 1))
    assert len(engine.generate(prompts_of(policy), Sampling(0.0, 4), [[0]] * 35)) == 35


def test_weights_that_another_put_there_under_the_same_label_fail_the_proof():
    policy, probe = TinyModel().load(1.0), [tuple(range(5, 77))]
    engine = served_engine(policy)
    engine.load_weights(full_tensors(policy.model), 1)
    assert SyncCheck().check(engine, policy, probe, 1) < 1e-3
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1.05)
    with pytest.raises(SyncError, match="does not hold policy version 1"):
        SyncCheck().check(engine, policy, probe, 1)


def test_an_update_that_a_trainer_left_half_done_is_forgotten():
    policy = TinyModel().load(1.0)
    address = shared_vllm_server().address
    post(address, "/pause?mode=abort", {})
    post(address, "/start_weight_update", {})
    engine, probe = served_engine(policy), [tuple(range(5, 77))]
    engine.load_weights(full_tensors(policy.model), 3)
    assert SyncCheck().check(engine, policy, probe, 3) < 1e-3


STALE = (
    "rollout.max_staleness=1",
    "optimizer.learning_rate=1e-4",
    "trainer.max_epochs=3",
    "evaluation.every_epochs=9",
)


def test_rollouts_are_written_beside_training(train, tmp_path):
    recorded = ("callbacks=default", "callbacks.export=null", "callbacks.progress=null")
    summary = train(shared_vllm_server().address, overrides=(*STALE, *recorded))
    assert summary["updates"] == 6
    versions = []
    for epoch in range(3):
        rows = pq.read_table(tmp_path / "run" / "rollouts" / f"epoch_{epoch:04d}.parquet")
        versions.append(set(rows["policy_version"].to_pylist()))
    assert versions == [{0}, {0}, {2}]
    assert "time/wait_seconds" in (tmp_path / "run" / "metrics.csv").read_text()


def test_weights_that_are_lost_beside_training_end_the_run(train, after_answers):
    address = shared_vllm_server().address
    after_answers(3, lambda: post(address, "/update_weight_version", {"new_version": "default"}))
    with pytest.raises(RunStoppedError, match="lost its weights while it wrote beside training"):
        train(address, overrides=STALE)


def test_a_server_killed_mid_epoch_is_survived_by_the_other(train, after_answers):
    victim = ServedVLLM()
    other = shared_vllm_server()
    victim.wait()
    answered = after_answers(2, victim.kill)
    assert train(victim.address, other.address)["updates"] == 4
    assert victim.process.returncode == -9
    assert other.address in answered


def test_the_only_server_killed_mid_epoch_and_started_again(train, after_answers):
    victim = ServedVLLM().wait()
    again = []

    def restart():
        victim.kill()
        again.append(ServedVLLM(victim.port))

    answered = after_answers(2, lambda: threading.Thread(target=restart).start())
    # Every answer teaches TOPR, so that no rollout is without updates.
    one_round = ("rollout.max_generation_rounds=1", "algorithm=topr")
    assert train(victim.address, wait=240, overrides=one_round)["updates"] == 4
    assert len(answered) == 8  # what was written before is kept, what was not is asked again
    after_answers(2, again[0].kill)
    with pytest.raises(
        EngineError, match=r"none of the 1 vLLM servers was well within 2 seconds .*nft-serve"
    ):
        train(victim.address, wait=2, overrides=(f"run_dir={again[0].log.parent / 'run'}",))


def test_a_key_guards_every_endpoint_and_the_engine_inside_is_killed(monkeypatch):
    policy = TinyModel().load(1.0)
    guarded = ServedVLLM(VLLM_API_KEY="k3y").wait()
    for key, words in (("", "refused .* with 401"), ("other", "refused .* with 401")):
        monkeypatch.setenv("VLLM_API_KEY", key)
        with pytest.raises(EngineError, match=words):
            served_engine(policy, guarded.address).load_weights(full_tensors(policy.model), 1)
    monkeypatch.setenv("VLLM_API_KEY", "k3y")
    engine = served_engine(policy, guarded.address, wait_for_server_seconds=2.0)
    assert engine.load_weights(full_tensors(policy.model), 1).tensors == 39
    assert len(engine.generate(prompts_of(policy), Sampling(0.0, 4), [[0]] * 35)) == 35
    engine.recover_with(lambda: engine.load_weights(full_tensors(policy.model), 1))
    guarded.kill_engine()
    # A request may still be answered by the server that has just lost its engine.
    ended = "none of the 1 vLLM servers was well within 2 seconds|answered 500 .* see its log"
    with pytest.raises(EngineError, match=ended):
        engine.generate(prompts_of(policy), Sampling(0.0, 4), [[0]] * 35)
    guarded.kill()
