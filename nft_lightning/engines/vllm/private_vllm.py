"""Private names of vLLM 0.32's, which no other file touches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# The method that decorates classes of transformers which vLLM runs itself.
DECORATE = "_decorate_cls_for_torch_compile"


def forget_rotary_tables() -> None:
    """Let the next model make rotary tables of its own.

    vLLM shares them among the models of a process, and a weight sync that fails in the middle leaves
    them unwritten: an engine started after it would compute with whatever memory holds.
    """
    from vllm.model_executor.layers import rotary_embedding

    rotary_embedding._ROPE_DICT.clear()


@contextmanager
def own_shared_memory(token: str) -> Iterator[None]:
    """Name the memory that ranks on processors share ``token-...`` for engines built meanwhile.

    vLLM's own name is the same for all runs whose ranks were started from outside: two of them on one
    host would meet in it, and one that was killed would leave it to the next, which then cannot start.
    """
    from vllm.distributed.device_communicators.cpu_communicator import _CPUSHMDistributed

    named = _CPUSHMDistributed.make_group_name

    def own_name(group: Any) -> str:
        # Such a name holds no slash but its first.
        return f"{token}{named(group).replace('/', '')}"

    _CPUSHMDistributed.make_group_name = staticmethod(own_name)
    try:
        yield
    finally:
        _CPUSHMDistributed.make_group_name = staticmethod(named)


def forget_weight_update(worker: Any) -> None:
    """End an update that a trainer left half done, if there is one."""
    if worker._weight_update_active:
        worker._weight_update_active = False
        worker.weight_transfer_engine.reset_weight_update_target()


def adapter_manager(worker: Any) -> Any:
    """Return who holds a worker's adapters."""
    return worker.model_runner.lora_manager._adapter_manager
