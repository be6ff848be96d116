"""Weights to servers by vLLM's own NCCL broadcast, between GPUs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from nft_lightning.engines.base import EngineError, SyncError
from nft_lightning.engines.checkpoint_format import CheckpointFormat
from nft_lightning.engines.vllm_server.fleet import Fleet, Stream
from nft_lightning.engines.vllm_server.http import ServerError


class NcclSender:
    """vLLM's own NCCL broadcast from the trainer's GPU to those of all servers.

    One group holds them all; it is made again when a server left, came or came back.

    Args:
        form: of the policy's tensors. address: where the servers reach this host.
        seconds: the limit of a whole broadcast.
        dtype: what the tensors come in; None is the parameters' own type.
    """

    def __init__(
        self, form: CheckpointFormat, address: str, seconds: float, dtype: torch.dtype | None = None
    ) -> None:
        self.shapes = [(name, dtype or own, tuple(shape)) for name, shape, own in form.shapes]
        self.address, self.seconds = address, seconds
        self.engine: Any = None
        self.members: list[tuple[str, str]] = []

    def send(self, fleet: Fleet, stream: Stream, label: str) -> None:
        """Broadcast the stream, which the servers know as ``label`` afterwards."""
        told = [s.call("GET", "/weight_info", seconds=fleet.seconds) for s in fleet.servers]
        found = [(s.address, t["weight_version"]) for s, t in zip(fleet.servers, told, strict=True)]
        # Servers that still hold what they got last are those of the group, and were not restarted.
        holds, self.members = self.engine is not None and found == self.members, []
        within(self.seconds, lambda: self.broadcast(fleet, stream, holds))
        self.members = [(s.address, label) for s in fleet.servers]

    def broadcast(self, fleet: Fleet, stream: Stream, group_holds: bool) -> None:
        """Join a new group if need be, then send."""
        if not group_holds:
            self.join(fleet)
        fleet.post("/start_weight_update")
        self.engine.source.stream = stream
        self.engine.client = Control(fleet)
        self.engine.send_weights()

    def join(self, fleet: Fleet) -> None:
        """A new group: this process is rank 0, the servers' workers follow."""
        from vllm.distributed.weight_transfer import WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        shapes = self.shapes

        class Source(WeightSource):
            stream: Stream = ()

            def metadata(self) -> list[Any]:
                return [ParamMeta(*shape) for shape in shapes]

            def __iter__(self) -> Iterator[tuple[str, Tensor]]:
                yield from self.stream

        if self.engine is not None:
            self.engine.shutdown()
            fleet.post("/shutdown_weight_transfer_engine")
        sizes = [s.call("GET", "/get_world_size", seconds=fleet.seconds) for s in fleet.servers]
        control = Control(fleet, [size["world_size"] for size in sizes])
        info = NCCLTrainerInitInfo(
            master_address=self.address,
            master_port=free_port(),
            world_size=1 + sum(control.sizes),
            rank=0,
        )
        self.engine = WeightTransferTrainerFactory.trainer_init(info, client=control, source=Source())


class Control:
    """vLLM's trainer side speaks to this one client; it speaks to all servers.

    Start and finish are the fleet's own, around the broadcast.
    """

    def __init__(self, fleet: Fleet, sizes: Sequence[int] = ()) -> None:
        self.fleet, self.sizes = fleet, list(sizes)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Each server's workers get the ranks behind those of the servers before it."""
        offsets = [1 + sum(self.sizes[:i]) for i in range(len(self.sizes))]
        bodies = [{"init_info": {**init_info, "rank_offset": offset}} for offset in offsets]
        self.fleet.post_each("/init_weight_transfer_engine", bodies)

    def start_weight_update(self) -> None:
        """Done before."""

    def update_weights(self, update_info: Any) -> None:
        """The servers receive while the trainer sends."""
        self.fleet.post("/update_weights", {"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Done afterwards, when all is found written."""


def within(seconds: float, work: Callable[[], None]) -> None:
    """Run ``work`` in a thread; SyncError where it takes longer: NCCL waits for a dead peer for ever."""
    outcome: list[BaseException | None] = []
    device = torch.cuda.current_device() if torch.cuda.is_available() else None

    def run() -> None:
        try:
            if device is not None:
                torch.cuda.set_device(device)
            work()
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise SyncError(
            f"the weights did not reach all servers within {seconds:g} seconds: see their logs, or "
            "raise rollout.engine.request_timeout_seconds"
        )
    error = outcome[0]
    if isinstance(error, Exception) and not isinstance(error, (EngineError, ServerError)):
        raise SyncError(
            f"the weights could not be broadcast ({type(error).__name__}: {error}): the trainer needs "
            "vLLM and a GPU that no server uses; else start the servers with --transfer files"
        ) from error
    if error is not None:
        raise error


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("", 0))
        port: int = found.getsockname()[1]
        return port
