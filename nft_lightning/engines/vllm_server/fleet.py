"""Weights to servers by vLLM's control endpoints."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from nft_lightning.engines.base import EngineError, SyncError
from nft_lightning.engines.vllm_server.http import Server, ServerError

log = logging.getLogger(__name__)
Stream = Iterable[tuple[str, Tensor]]
SHARED_MEMORY = Path("/dev/shm")


class Fleet:
    """The servers that take part in one sync; one that fails leaves it and is not used.

    Args:
        servers: those that answered. seconds: the limit of each request.
    """

    def __init__(self, servers: Sequence[Server], seconds: float) -> None:
        self.servers, self.seconds = list(servers), seconds

    def post(self, path: str, body: Any = None) -> list[Any]:
        """Return the answers of all servers, asked side by side."""
        return self.post_each(path, [body] * len(self.servers))

    def post_each(self, path: str, bodies: Sequence[Any]) -> list[Any]:
        """As :meth:`post`, with a body for each.

        Raises:
            SyncError: no server is left.
            EngineError: a server refused.
        """
        found = []
        with ThreadPoolExecutor(max_workers=len(self.servers)) as threads:
            for server, future in [
                (s, threads.submit(s.call, "POST", path, body, seconds=self.seconds))
                for s, body in zip(self.servers, bodies, strict=True)
            ]:
                try:
                    found.append((server, future.result()))
                except ServerError as fault:
                    server.fault, server.up = fault, False
                    log.warning("left out of this weight sync: %s", fault)
        if not found:
            raise SyncError(f"no server took the weights: {self.servers[-1].fault}")
        self.servers = [server for server, _ in found]
        return [answer for _, answer in found]

    def rpc(self, method: str) -> list[Any]:
        """Return what each server's first worker answers to a method of ``ServedWorker``."""
        return [answer["results"] for answer in self.post("/collective_rpc", {"method": method})]

    def update(
        self, label: str, send: Callable[[Fleet, str], None], dtype: torch.dtype | None = None
    ) -> None:
        """One weight update of all servers, known as ``label`` afterwards; ``send`` moves the tensors.

        Raises:
            SyncError: a server computes in another type than ``dtype``, parameters were left unwritten,
                the prefix cache was not reset, no server is left.
        """
        self.post("/pause?mode=abort")
        try:
            workers = self.rpc("nft_prepare")
        except EngineError as error:
            raise SyncError(f"{error} (nft-serve adds what is asked for)") from error
        self.check_dtype([worker for answer in workers for worker in answer[:1]], dtype)
        backends = {worker["backend"] for answer in workers for worker in answer}
        if len(backends) > 1:
            raise SyncError(
                f"the servers take weights in different ways ({', '.join(sorted(backends))}): "
                "start all with the same --transfer"
            )
        send(self, backends.pop())
        reports = self.rpc("nft_unwritten")
        for server, answer in zip(self.servers, reports, strict=True):
            unwritten = sorted({name for worker in answer for name in worker})
            if unwritten:
                raise SyncError(
                    f"weight sync: the vLLM server at {server.address} left {len(unwritten)} of its "
                    f"parameters unwritten, {unwritten[0]!r} among them"
                )
        self.post("/finish_weight_update", {"weight_version": label})
        # Cached keys and values are looked up by token, not by weights.
        answers = self.post("/reset_prefix_cache?reset_running_requests=true")
        for server, answer in zip(self.servers, answers, strict=True):
            if not answer["success"]:
                raise SyncError(f"the vLLM server at {server.address} did not reset its prefix cache")
        self.post("/resume")

    def check_dtype(self, workers: Sequence[Any], dtype: torch.dtype | None) -> None:
        """SyncError where a server computes in another type; ``workers`` holds one of each."""
        wanted = str(dtype).removeprefix("torch.")
        for server, worker in zip(self.servers, workers, strict=True):
            if dtype is not None and worker["dtype"] != wanted:
                raise SyncError(
                    f"the vLLM server at {server.address} computes in {worker['dtype']} where "
                    f"rollout.engine.dtype is {wanted}: start it with --dtype {wanted}"
                )


class FileSender:
    """Tensors as safetensors files in a folder that trainer and servers see.

    Args:
        folder: None is shared memory where there is any, else the temporary folder.
        chunk_bytes: most that is there at a time, one tensor at least.
    """

    def __init__(self, folder: str | None, chunk_bytes: int) -> None:
        default = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
        self.folder, self.chunk_bytes = Path(folder) if folder else default, chunk_bytes

    def send(self, fleet: Fleet, stream: Stream) -> None:
        """Write a file, let all servers load it, remove it; until the stream ends."""
        fleet.post("/init_weight_transfer_engine", {"init_info": {}})
        fleet.post("/start_weight_update")
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="nft-weights-") as folder:
            path = Path(folder) / "chunk.safetensors"
            for chunk in self.chunks(stream):
                self.save(chunk, path)
                fleet.post("/update_weights", {"update_info": {"path": str(path)}})
                path.unlink()

    def save(self, chunk: dict[str, Tensor], path: Path) -> None:
        """Write one file; SyncError where the folder has no room for it."""
        try:
            save_file(chunk, path)
        except (OSError, SafetensorError) as error:
            raise SyncError(
                f"the weights could not be written to {path.parent.parent} ({error}): name a larger "
                "folder in rollout.engine.transfer_folder, or lower rollout.engine.transfer_chunk_mib"
            ) from error

    def chunks(self, stream: Stream) -> Iterator[dict[str, Tensor]]:
        """Yield tensors on the CPU, together no more than ``chunk_bytes``."""
        chunk: dict[str, Tensor] = {}
        for name, tensor in stream:
            if chunk and sum(t.nbytes for t in chunk.values()) + tensor.nbytes > self.chunk_bytes:
                yield chunk
                chunk = {}
            chunk[name] = tensor.detach().contiguous().cpu()
        if chunk:
            yield chunk
