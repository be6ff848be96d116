"""The NCCL way without a GPU: vLLM's own sender with its two calls of NCCL taken out."""

from __future__ import annotations

import pytest
from torch import nn

from nft_lightning.engines.weight_sync import full_tensors
from tests.engines.fake_server import fakes
from tests.engines.test_server_faults import engine

pytestmark = pytest.mark.vllm


@pytest.fixture
def broadcasts(monkeypatch):
    """What was sent, broadcast by broadcast."""
    nccl = pytest.importorskip("vllm.distributed.weight_transfer.nccl_engine")
    sent = []

    class Group:
        def destroy(self):
            sent.append("left")

    def join(info):
        sent.append(f"joined {info.world_size}")
        return Group()

    def send(iterator, **_):
        sent.append([(name, tuple(tensor.shape)) for name, tensor in iterator])

    monkeypatch.setattr(nccl, "open_trainer_endpoint", join)
    monkeypatch.setattr(nccl, "packed_nccl_broadcast_producer", send)
    return sent


ALL = [("weight", (3, 2)), ("bias", (3,))]


def test_one_group_of_all_servers_is_kept(broadcasts):
    with fakes(2, backend="nccl") as servers:
        made = engine(*servers)
        made.load_weights(full_tensors(nn.Linear(2, 3)), 6)
        assert broadcasts == ["joined 5", ALL, ALL]
        offsets = [
            body["init_info"]["rank_offset"]
            for fake in servers
            for name, body in fake.calls
            if name == "/init_weight_transfer_engine"
        ]
        assert offsets == [1, 3]
        told = [body["update_info"] for name, body in servers[1].calls if name == "/update_weights"]
        assert [t["names"] for t in told] == [["weight", "bias"]] * 2
        asked = servers[0].asked
        assert asked.index("/init_weight_transfer_engine") < asked.index("/start_weight_update")
        assert {fake.version for fake in servers} == {made.label}


def test_a_server_that_was_restarted_makes_a_new_group(broadcasts):
    with fakes(2, backend="nccl") as servers:
        made = engine(*servers)
        servers[0].version = "default"
        made.load_weights(full_tensors(nn.Linear(2, 3)), 6)
        assert broadcasts == ["joined 5", ALL, "left", "joined 5", ALL]
        assert "/shutdown_weight_transfer_engine" in servers[0].asked
