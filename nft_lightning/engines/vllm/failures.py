"""What vLLM raises, as one sentence with what helps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nft_lightning.engines.base import EngineError


@contextmanager
def one_sentence(when: str) -> Iterator[None]:
    """Yield what vLLM raises, as an EngineError; its processes may have died for want of memory."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or ["without a word"])[0].rstrip(".")
        raise EngineError(
            f"vLLM failed {when} ({type(error).__name__}: {said}): {remedy(error)}; --debug shows where"
        ) from error


def remedy(error: Exception) -> str:
    """Return what helps against an error of vLLM's; some kinds never come of memory."""
    if isinstance(error, (AttributeError, AssertionError, NotImplementedError, TypeError, IndexError)):
        return "it may not know this model here, then use rollout=hf"
    return "if memory ran out, lower rollout.engine.max_num_seqs or gpu_memory_utilization"
