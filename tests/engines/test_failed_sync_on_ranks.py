"""A server that fails in the middle of a weight sync ends every rank, also where weights are sharded."""

from __future__ import annotations

import pytest

from tests.engines.fake_server import fakes, hang, status
from tests.forked_ranks import run_ranks

pytestmark = pytest.mark.slow


def dies(fake):
    """Answer no more at all, and hang up on who asks."""

    def fault(handler):
        handler.close_connection = True
        fake.http.socket.close()
        handler.connection.close()

    return fault


def after_the_first(fake, fault):
    """``fault`` from the second chunk of the weights on."""
    return lambda handler: {} if fake.asked.count("/update_weights") < 2 else fault(handler)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", "zero3"])
def test_every_rank_ends_with_one_sentence(tmp_path, strategy):
    with fakes(3) as servers:
        for server, fault in zip(servers, (status(500), dies(servers[1]), hang(60)), strict=True):
            server.faults["/update_weights"] = after_the_first(server, fault)
        addresses = [server.address for server in servers]
        result = run_ranks(2, "tests.engines.rank_syncs", str(tmp_path), strategy, *addresses)
        asked = [server.asked.count("/update_weights") for server in servers]
    assert result.returncode == 0, result.stderr[-3000:]
    assert all(count >= 2 for count in asked), "the fault came in the middle"
    for i in range(3):
        own, other = ((tmp_path / f"{i}_{rank}.txt").read_text() for rank in range(2))
        assert own.startswith("SyncError")
        assert "no server took the weights" in own
        assert own.partition(": ")[2] == other.partition(": ")[2]
