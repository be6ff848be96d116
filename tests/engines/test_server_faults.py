"""Servers that fail in every way: each ends within bounded retries, survived or in one sentence."""

from __future__ import annotations

import json
import socket
import time

import pytest
import torch
from torch import nn

from nft_lightning.app.build import build
from nft_lightning.engines.base import EngineError, SyncError
from nft_lightning.engines.checkpoint_format import CheckpointFormat
from nft_lightning.engines.vllm.engine import VLLMEngineConfig
from nft_lightning.engines.vllm_server import fleet as server_sync
from nft_lightning.engines.vllm_server.config import VLLMServerConfig
from nft_lightning.engines.vllm_server.fleet import FileSender, Fleet
from nft_lightning.engines.vllm_server.http import Server
from nft_lightning.engines.vllm_server.nccl import Control, NcclSender, within
from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.errors import UserError
from nft_lightning.types import Sampling
from tests.engines.fake_server import drip, fakes, hang, status, text

GENERATE = "/inference/v1/generate"
PROMPTS = [(i, i + 1) for i in range(1, 13)]
SEEDS = [[i, i + 100] for i in range(12)]
SAMPLING = Sampling(1.0, 8)


class Tokenizer:
    eos_token_id = 2

    def batch_decode(self, rows, skip_special_tokens):
        return [" ".join(map(str, row)) for row in rows]


def engine(*servers, synced=True, **options):
    """An engine over fake servers, quick to lose patience."""
    limits = {"request_timeout_seconds": 0.5, "max_attempts": 3, "backoff_seconds": 0.02}
    config = VLLMServerConfig(
        addresses=[getattr(s, "address", s) for s in servers],
        **{**limits, "wait_for_server_seconds": 0.2, "requests_per_server": 4, **options},
    )
    model = nn.Linear(2, 3)
    made = config.build(model, Tokenizer())
    if synced:
        made.load_weights(full_tensors(model), 5)
    return made


def nobody():
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def short_of_one(handler):
    return {"choices": []}


def aborted(fake):
    return lambda handler: {"choices": [{**fake.choice(i), "finish_reason": "abort"} for i in (0, 1)]}


FAULTS = {
    "500": (status(500), r"answered 500 to /inference/v1/generate \(it broke\): see its log"),
    "503 and no JSON": (status(503, b"<html>busy</html>"), r"answered 503 .*<html>busy</html>"),
    "hangs": (hang(2), r"did not answer /inference/v1/generate within 0.5 seconds: .*_timeout_seconds"),
    "drips": (drip, "did not answer /inference/v1/generate within 0.5 seconds"),
    "malformed JSON": (text(b'{"choices": ['), r"something that is no JSON .*proxy"),
    "another form": (text(b'{"choices": [{"text": "4"}]}'), r"a form that is not vLLM's \(KeyError"),
    "no object": (text(b"[1]"), r"a form that is not vLLM's"),
    "fewer completions": (short_of_one, "returned 0 completions where 2 were asked"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_only_server_ends_in_one_sentence(fault):
    break_it, words = FAULTS[fault]
    with fakes() as (fake,):
        made = engine(fake)
        fake.faults[GENERATE] = break_it
        started = time.monotonic()
        with pytest.raises(EngineError, match=words) as raised:
            made.generate(PROMPTS, SAMPLING, SEEDS)
        assert time.monotonic() - started < 30
        assert fake.address in str(raised.value)
        assert "\n" not in str(raised.value)
        assert 3 <= fake.generated() <= 3 * 4 + 4


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_one_server_is_survived_by_the_other(fault):
    with fakes(2) as (good, bad):
        made = engine(good, bad, request_timeout_seconds=1.5)
        bad.faults[GENERATE] = FAULTS[fault][0]
        groups = made.generate(PROMPTS, SAMPLING, SEEDS)
        assert [len(g) for g in groups] == [2] * 12
        assert {c.policy_version for g in groups for c in g} == {5}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_is_retried(fault):
    with fakes() as (fake,):
        made = engine(fake, request_timeout_seconds=1.5)
        met = []

        def once(handler):
            if met:
                return fake.answer(GENERATE, {"sampling_params": {"n": 2}})
            met.append(1)
            return FAULTS[fault][0](handler)

        fake.faults[GENERATE] = once
        assert len(made.generate(PROMPTS, SAMPLING, SEEDS)) == 12


def test_a_completion_that_was_broken_off_is_asked_again():
    with fakes() as (fake,):
        made = engine(fake)
        fake.faults[GENERATE] = aborted(fake)
        with pytest.raises(EngineError, match=r"broke off a completion \(abort\)"):
            made.generate(PROMPTS, SAMPLING, SEEDS)


def test_both_servers_get_requests():
    with fakes(2) as servers:
        for fake in servers:
            fake.faults[GENERATE] = lambda handler, fake=fake: (
                time.sleep(0.02) or fake.answer(GENERATE, {"sampling_params": {"n": 2}})
            )
        engine(*servers).generate(PROMPTS, SAMPLING, SEEDS)
        assert all(fake.generated() >= 2 for fake in servers)


def test_answers_come_in_the_order_of_the_prompts():
    with fakes(2) as servers:
        made = engine(*servers)
        for fake in servers:

            def echo(handler, fake=fake):
                prompt = fake.calls[-1][1]["token_ids"]
                time.sleep(0.01 * (prompt[0] % 3))
                return {"choices": [{**fake.choice(0), "token_ids": [prompt[0], 2]}]}

            fake.faults[GENERATE] = echo
        made = engine(*servers, requests_per_server=1)
        groups = made.generate(PROMPTS, SAMPLING, [[0]] * 12)
        assert [g[0].token_ids[0] for g in groups] == [p[0] for p in PROMPTS]


def test_nobody_listens():
    with pytest.raises(
        EngineError, match=r"none of the 1 vLLM servers was well within 0.2 seconds.*nft-serve"
    ):
        engine(nobody())


def test_one_of_two_listens(caplog):
    with fakes() as (fake,):
        made = engine(nobody(), fake)
        assert len(made.generate(PROMPTS, SAMPLING, SEEDS)) == 12
    assert "left out of this weight sync" in caplog.text


def test_other_weights_are_not_used():
    with fakes() as (fake,):
        made = engine(fake)
        fake.version = "default"
        with pytest.raises(EngineError, match=r"wrote with weights 'default' where '\w+/5' were synced"):
            made.generate(PROMPTS, SAMPLING, SEEDS)


def test_a_server_that_came_back_without_weights_gets_them_again():
    with fakes() as (fake,):
        made = engine(fake)
        synced = []

        def resync():
            synced.append(1)
            made.load_weights(full_tensors(nn.Linear(2, 3)), 5)

        made.recover_with(resync)
        fake.version = "default"
        groups = made.generate(PROMPTS, SAMPLING, SEEDS)
        assert len(synced) == 1
        assert {c.policy_version for g in groups for c in g} == {5}


def test_a_server_that_loses_its_weights_again_and_again():
    with fakes() as (fake,):
        made = engine(fake)
        made.recover_with(lambda: made.load_weights(full_tensors(nn.Linear(2, 3)), 5))
        fake.faults["/finish_weight_update"] = lambda handler: {}
        fake.version = "another/9"
        with pytest.raises(EngineError, match=r"servers were lost 3 times: .*or another run uses it"):
            made.generate(PROMPTS, SAMPLING, SEEDS)


def test_the_key_is_sent_and_a_wrong_one_named(monkeypatch):
    monkeypatch.setenv("SECRET_OF_MINE", "s3cret")
    with fakes() as (fake,):
        made = engine(fake, api_key_variable="SECRET_OF_MINE")
        assert set(fake.keys) == {"Bearer s3cret"}
        assert "s3cret" not in repr(made.config)
        fake.faults[GENERATE] = status(401)
        with pytest.raises(EngineError, match=r"refused .* with 401 .*api_key_variable"):
            made.generate(PROMPTS, SAMPLING, SEEDS)
        assert fake.generated() <= 4


class TestSync:
    def test_the_order_of_an_update(self):
        with fakes() as (fake,):
            engine(fake)
            assert fake.asked == [
                "/health",
                "/pause",
                "nft_prepare",
                "/init_weight_transfer_engine",
                "/start_weight_update",
                "/update_weights",
                "nft_unwritten",
                "/finish_weight_update",
                "/reset_prefix_cache",
                "/resume",
            ]

    def test_unwritten_parameters(self):
        with fakes() as (fake,):
            fake.faults["nft_unwritten"] = lambda handler: {"results": [["b", "a"]]}
            with pytest.raises(SyncError, match="left 2 of its parameters unwritten, 'a' among"):
                engine(fake)

    def test_a_cache_that_is_not_reset(self):
        with fakes() as (fake,):
            fake.faults["/reset_prefix_cache"] = lambda handler: {"success": False}
            with pytest.raises(SyncError, match="did not reset its prefix cache"):
                engine(fake)

    @pytest.mark.parametrize("path", ["/pause", "/update_weights", "/finish_weight_update"])
    def test_a_server_that_fails_is_left_out(self, path):
        with fakes(2) as (good, bad):
            bad.faults[path] = status(500)
            made = engine(good, bad)
            made.generate(PROMPTS, SAMPLING, SEEDS)
            assert [r.servers[0].address for r in made.replicas()] == [good.address]
            assert bad.generated() == 0
            assert good.generated() == 12

    def test_all_fail(self):
        with fakes() as (fake,):
            fake.faults["/update_weights"] = status(500)
            with pytest.raises(SyncError, match=r"no server took the weights: .* answered 500"):
                engine(fake)

    def test_a_server_that_is_not_ours(self):
        with fakes() as (fake,):
            fake.faults["/pause"] = status(404, b'{"detail": "Not Found"}')
            with pytest.raises(EngineError, match=r"refused /pause.* with 404 \(Not Found\).*nft-serve"):
                engine(fake)

    def test_servers_that_take_weights_in_different_ways(self):
        with fakes(2) as (one, other):
            other.backend = "nccl"
            with pytest.raises(SyncError, match=r"different ways .*nccl.*--transfer"):
                engine(one, other)

    def test_a_failed_sync_leaves_no_version(self):
        with fakes() as (fake,):
            made = engine(fake)
            with pytest.raises(SyncError, match="1 of 2 tensors missing"):
                made.load_weights([("weight", torch.zeros(3, 2))], 6)
            assert made.policy_version == -1

    def test_chunks_are_bounded_and_removed(self, tmp_path):
        with fakes() as (fake,):
            sizes = []
            fake.faults["/update_weights"] = lambda handler: (
                sizes.append([p.stat().st_size for p in tmp_path.rglob("*.safetensors")]) or {}
            )
            tensors = [(f"t{i}", torch.zeros(1000)) for i in range(5)]
            FileSender(str(tmp_path), 8000).send(Fleet([Server(fake.address, None)], 5.0), tensors)
            assert len(sizes) == 3
            assert all(len(s) == 1 and s[0] < 9000 for s in sizes)
            assert list(tmp_path.iterdir()) == []

    def test_ranks_of_an_nccl_group_follow_one_another(self):
        with fakes(2) as servers:
            fleet = Fleet([Server(s.address, None) for s in servers], 5.0)
            Control(fleet, [2, 2]).init_weight_transfer_engine({"world_size": 5, "rank_offset": 1})
            sent = [s.calls[-1][1]["init_info"] for s in servers]
            assert [s["rank_offset"] for s in sent] == [1, 3]
            assert {s["world_size"] for s in sent} == {5}

    def test_a_broadcast_that_never_ends(self):
        with pytest.raises(SyncError, match=r"did not reach all servers within 0.1 seconds"):
            within(0.1, lambda: time.sleep(5))

    def test_what_a_broadcast_raises(self):
        with pytest.raises(
            SyncError, match=r"could not be broadcast \(ZeroDivisionError: .*--transfer files"
        ):
            within(5, lambda: 1 // 0)

    def test_a_full_folder(self, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(server_sync, "save_file", full)
        with fakes() as (fake,), pytest.raises(SyncError, match=r"No space left .*transfer_folder"):
            engine(fake)

    def test_servers_that_vanish_while_nccl_asks_them(self):
        with fakes(backend="nccl") as (fake,):
            fake.faults["/weight_info"] = status(500)
            with pytest.raises(SyncError, match=r"weight sync 5: .* answered 500 to /weight_info"):
                engine(fake)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"addresses": []}, "names no server"),
        ({"addresses": ["127.0.0.1:8000"]}, "is not an address"),
        ({"addresses": ["http://a:b"]}, "is not an address"),
        ({"addresses": ["http://me:s3cret@a:1"]}, "holds a name or a password"),
        ({"addresses": ["http://a:1", "http://a:1"]}, "is given twice"),
        ({"max_attempts": 0}, "max_attempts=0 is below 1"),
        ({"request_timeout_seconds": 0}, "is not above 0: use 600"),
        ({"backoff_seconds": -1}, "backoff_seconds=-1"),
        ({"transfer_folder": "/nowhere"}, "is not a folder"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(UserError, match=words):
        VLLMServerConfig(**options)


def test_the_config_builds_and_holds_no_key(compose_config, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "s3cret")
    cfg = compose_config("rollout=vllm_server", "rollout.engine.addresses=[http://h:1,http://h:2]")
    made = build(cfg.rollout.engine, "rollout.engine")
    assert made.addresses == ["http://h:1", "http://h:2"]
    assert "s3cret" not in json.dumps(repr(cfg))


def test_weights_are_sent_in_the_servers_type(monkeypatch):
    sent, save = [], server_sync.save_file
    monkeypatch.setattr(
        server_sync, "save_file", lambda chunk, path: (sent.append(chunk), save(chunk, path))
    )
    with fakes(2, dtype="bfloat16") as servers:
        made = engine(*servers, dtype="bfloat16", synced=False)
        model = nn.Linear(2, 3)
        report = made.load_weights(full_tensors(model), 1)
        engine(servers[0])  # auto: as they are, to servers of any type
    assert report.bytes == 2 * (6 + 3)
    assert [{t.dtype for t in chunk.values()} for chunk in sent] == [{torch.bfloat16}, {torch.float32}]
    assert torch.equal(sent[0]["weight"], model.weight.bfloat16())


def test_a_server_of_another_type_is_named():
    with (
        fakes(1, dtype="bfloat16") as right,
        fakes(1) as wrong,
        pytest.raises(
            SyncError, match=r"computes in float32 .*: start it with --dtype bfloat16"
        ) as error,
    ):
        engine(*right, *wrong, dtype="bfloat16")
    assert wrong[0].address in str(error.value)
    assert "/start_weight_update" not in right[0].asked


def test_nccl_announces_the_type_that_is_sent():
    form = CheckpointFormat(nn.Linear(2, 3))
    assert {dtype for _, dtype, _ in NcclSender(form, "", 1.0, torch.bfloat16).shapes} == {
        torch.bfloat16
    }
    assert {dtype for _, dtype, _ in NcclSender(form, "", 1.0).shapes} == {torch.float32}


@pytest.mark.parametrize("kind", [VLLMServerConfig, VLLMEngineConfig])
def test_a_type_that_is_none_is_refused(monkeypatch, kind):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    with pytest.raises(UserError, match=r"rollout\.engine\.dtype='int8' is not a type: use one of auto"):
        kind(dtype="int8")
