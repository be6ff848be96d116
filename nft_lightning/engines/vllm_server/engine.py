"""Completions from vLLM servers on other GPUs or hosts (``rollout=vllm_server``)."""

from __future__ import annotations

import copy
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from nft_lightning.distributed.preemption import at_once
from nft_lightning.distributed.ranks import broadcast_from_rank0, first, gather_objects, several
from nft_lightning.engines.base import (
    Engine,
    EngineError,
    Follow,
    Prompt,
    SyncError,
    SyncReport,
)
from nft_lightning.engines.checkpoint_format import CheckpointFormat
from nft_lightning.engines.ends import end_ids
from nft_lightning.engines.vllm_server.config import VLLMServerConfig
from nft_lightning.engines.vllm_server.fleet import FileSender, Fleet
from nft_lightning.engines.vllm_server.http import Server, ServerError
from nft_lightning.engines.vllm_server.nccl import NcclSender
from nft_lightning.engines.vllm_server.requests import Request, Written, ask
from nft_lightning.engines.vllm_server.schedule import Retries, Spread
from nft_lightning.engines.weight_sync import Manifest, cast, engine_dtype
from nft_lightning.types import Completion, Sampling

log = logging.getLogger(__name__)
POLL_SECONDS = 1.0


class VLLMServerEngine(Engine):
    """Servers as one engine; see :class:`nft_lightning.engines.base.Engine`.

    Weights go to every server that answers, under a label of this run, and every completion must
    carry it. A server that fails is left out until the next sync; where none is left, the weights
    go again to whichever comes back. With several ranks the first speaks to the servers for all.
    """

    apart = True

    def __init__(self, config: VLLMServerConfig, model: nn.Module, tokenizer: Any) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.policy_version = -1
        self.manifest, self.dtype = Manifest.of(model), engine_dtype(config.dtype)
        self.format, self.ends = CheckpointFormat(model), end_ids(model, tokenizer)
        key = os.environ.get(config.api_key_variable)
        self.servers = [Server(address, key) for address in config.addresses]
        self.run_label, self.label = uuid.uuid4().hex[:8], ""
        self.files = FileSender(config.transfer_folder, config.transfer_chunk_mib * 2**20)
        seconds = config.request_timeout_seconds
        self.nccl = NcclSender(self.format, config.trainer_address, seconds, self.dtype)

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> SyncReport:
        """vLLM's four phases over HTTP to every server that answers; on all ranks, or it hangs."""
        started = time.perf_counter()
        tally: dict[str, int] = {}
        named = iter(named_tensors)
        checked = self.manifest.checked(cast(named, self.dtype), version, tally)
        stream = self.format.applied(checked)
        self.policy_version = -1  # until all is written, this engine holds no version
        error: Exception | None = None
        try:
            if first():
                self.update(stream, version)
            else:
                exhaust(stream)
        except Exception as found:
            error = found
        if several():
            # Gathering a shard is a collective call: every rank runs to the end, whatever happened.
            exhaust(named)
        if failed := [e for e in gather_objects(error) if e is not None]:
            raise failed[0]
        self.policy_version = version
        replicas = broadcast_from_rank0(lambda: sum(s.up for s in self.servers))
        seconds = time.perf_counter() - started
        return SyncReport(version, len(tally), sum(tally.values()), seconds, replicas)

    def update(self, stream: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Send the stream to the servers that answer, which hold ``version`` from then on."""
        fleet = Fleet(self.answering(), self.config.request_timeout_seconds)
        label = f"{self.run_label}/{version}"

        def send(fleet: Fleet, backend: str) -> None:
            if backend == "nccl":
                self.nccl.send(fleet, stream, label)
            else:
                self.files.send(fleet, stream)

        try:
            fleet.update(label, send, self.dtype)
        except ServerError as error:
            raise SyncError(f"weight sync {version}: {error}") from error
        self.label = label
        for server in self.servers:
            server.up = server in fleet.servers
            server.fault = None if server.up else server.fault
            server.failures, server.rest_until = 0, 0.0

    def answering(self) -> list[Server]:
        """Return the servers that are well, once there is one; EngineError where none comes in time."""
        limit = self.config.wait_for_server_seconds
        deadline = time.monotonic() + limit
        while True:
            found = [s for s in self.servers if s.healthy()]
            if found:
                for server in set(self.servers) - set(found):
                    log.warning("left out of this weight sync: %s", server.fault)
                return found
            if time.monotonic() >= deadline:
                last = self.servers[-1]
                raise EngineError(
                    f"none of the {len(self.servers)} vLLM servers was well within {limit:g} seconds "
                    f"(rollout.engine.wait_for_server_seconds); {last.fault or last.address + ' is ill'}"
                )
            time.sleep(POLL_SECONDS)

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[Sequence[int]]
    ) -> list[list[Completion]]:
        """See :class:`nft_lightning.engines.base.Engine`. The group's first seed draws all of it."""
        mine = [self.request(p, s, sampling) for p, s in zip(prompts, seeds, strict=True)]
        # Ranks that ask the same get the same: they must not train on different samples.
        jobs = list(dict.fromkeys(job for jobs in gather_objects(mine) for job in jobs))
        spread = self.spread(jobs)
        self.finish(spread)
        answers = broadcast_from_rank0(lambda: spread.answers)
        index = {job: i for i, job in enumerate(jobs)}
        return [self.completions(answers[index[job]]) for job in mine]

    @property
    def streams(self) -> bool:
        """Return whether this is the only rank: several would each ask for other things."""
        return not several()

    def generate_streaming(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        seeds: Sequence[Sequence[int]],
        follow: Follow,
    ) -> None:
        """As ``generate``, with each prompt's completions told as soon as they are there."""

        def told(i: int, written: list[Written]) -> None:
            def go_on(more: Sequence[tuple[Prompt, Sequence[int]]]) -> None:
                spread.go_on([self.request(p, s, sampling) for p, s in more])

            follow(i, self.completions(written), go_on, spread.fail)

        jobs = [self.request(p, s, sampling) for p, s in zip(prompts, seeds, strict=True)]
        spread = self.spread(jobs, told)
        self.finish(spread)

    def request(self, prompt: Prompt, seeds: Sequence[int], sampling: Sampling) -> Request:
        """Return one prompt as a job."""
        return Request(tuple(prompt), tuple(seeds), sampling, self.ends)

    def spread(
        self, jobs: Sequence[Request], follow: Callable[[int, list[Written]], None] | None = None
    ) -> Spread[Request, list[Written]]:
        """Jobs to be asked of the servers in use."""
        retries = Retries(
            self.config.max_attempts, self.config.backoff_seconds, self.config.requests_per_server
        )
        seconds = self.config.request_timeout_seconds
        return Spread(jobs, lambda server, job: ask(server, job, self.label, seconds), retries, follow)

    def finish(self, spread: Spread[Request, list[Written]]) -> None:
        """Ask until all is answered, with the weights given again where every server lost them."""
        version, limit, losses = self.policy_version, self.config.max_attempts, 0

        def run() -> bool:
            with at_once():
                return spread.run(self.servers)

        while not broadcast_from_rank0(run):
            losses += 1
            if losses == limit:
                raise EngineError(
                    f"servers were lost {limit} times: {broadcast_from_rank0(self.last_fault)}"
                )
            self.give_weights_again(version)

    def last_fault(self) -> str:
        """Return the fault to tell of: rather what a server said than that it cannot be reached."""
        faults = sorted((s.fault for s in self.servers if s.fault), key=lambda f: f.gone)
        return str(faults[0]) if faults else "no server has weights"

    def give_weights_again(self, version: int) -> None:
        """Sync to whichever server comes back; EngineError where waiting would not help."""
        if not broadcast_from_rank0(lambda: any(s.fault and s.fault.gone for s in self.servers)):
            raise EngineError(broadcast_from_rank0(self.last_fault))
        if self.resync is None:
            raise EngineError(f"no server is left: {broadcast_from_rank0(self.last_fault)}")
        log.warning("no vLLM server is left; the weights go to the first that comes back")
        self.resync()
        if self.policy_version != version:
            raise EngineError(
                f"the servers now hold version {self.policy_version} where version {version} was asked"
            )

    def completions(self, written: Sequence[Written]) -> list[Completion]:
        """Return one request's samples, with their texts."""
        listed = [ids.tolist() for ids, _, _ in written]
        texts = self.tokenizer.batch_decode(listed, skip_special_tokens=True)
        return [
            Completion(ids, text, logprobs, truncated, self.policy_version)
            for (ids, logprobs, truncated), text in zip(written, texts, strict=True)
        ]

    def replicas(self) -> list[VLLMServerEngine]:
        """Return one engine for each server in use: each must be shown to hold the policy."""
        up = broadcast_from_rank0(lambda: [i for i, s in enumerate(self.servers) if s.up])
        made = []
        for i in up:
            replica = copy.copy(self)
            replica.servers, replica.resync = [self.servers[i]], None
            made.append(replica)
        return made

    def sleep(self) -> None:
        """Nothing to give back: the servers' memory is their own."""


def exhaust(tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Take every tensor and keep none."""
    for _ in tensors:
        pass
