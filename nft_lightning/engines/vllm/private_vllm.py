"""Private names of vLLM 0.32's, which no other file touches."""

from __future__ import annotations

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


def forget_weight_update(worker: Any) -> None:
    """End an update that a trainer left half done, if there is one."""
    if worker._weight_update_active:
        worker._weight_update_active = False
        worker.weight_transfer_engine.reset_weight_update_target()


def adapter_manager(worker: Any) -> Any:
    """Return who holds a worker's adapters."""
    return worker.model_runner.lora_manager._adapter_manager
