"""One sampled answer: its text, its tokens and their log-probabilities. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Completion:
    """One sampled answer.

    ``token_ids`` [T] int32 ends with an end id, or with the token that completes a stop string, unless
    ``truncated``; ``text`` is all of it without special tokens; ``logprobs`` [T] fp32 are the engine's,
    at the sampling temperature; ``policy_version`` counts the optimizer updates behind the weights that
    wrote it. ``mask`` [T] bool says which tokens the policy wrote, where some are not its own, such as a
    tool's output: those are read and not trained on.

    The three arrays are read-only copies of what is given, which may be any sequence of numbers. Two
    completions are equal where all fields are.
    """

    token_ids: npt.NDArray[np.int32]
    text: str
    logprobs: npt.NDArray[np.float32]
    truncated: bool
    policy_version: int
    mask: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "token_ids", read_only(self.token_ids, np.int32))
        object.__setattr__(self, "logprobs", read_only(self.logprobs, np.float32))
        if self.mask is not None:
            object.__setattr__(self, "mask", read_only(self.mask, np.bool_))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Completion):
            return NotImplemented
        return all(same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    def __hash__(self) -> int:
        return hash((self.token_ids.tobytes(), self.text, self.truncated, self.policy_version))

    def __reduce__(self) -> tuple[Any, ...]:
        # Arrays as they are would be larger in a pickle, slower, and writable behind it.
        mask = None if self.mask is None else self.mask.tobytes()
        ids, logprobs = self.token_ids.tobytes(), self.logprobs.tobytes()
        return unpickled, (ids, self.text, logprobs, self.truncated, self.policy_version, mask)

    @property
    def written(self) -> int:
        """Return the number of tokens that the policy wrote."""
        return len(self.token_ids) if self.mask is None else int(self.mask.sum())


def unpickled(
    token_ids: bytes, text: str, logprobs: bytes, truncated: bool, version: int, mask: bytes | None
) -> Completion:
    """Return the completion that was pickled, from the bytes of its arrays."""
    return Completion(
        np.frombuffer(token_ids, np.int32),
        text,
        np.frombuffer(logprobs, np.float32),
        truncated,
        version,
        None if mask is None else np.frombuffer(mask, np.bool_),
    )


def read_only(values: Any, dtype: Any) -> npt.NDArray[Any]:
    """Return a copy of ``values`` [T], an array or a sequence of numbers, that cannot be written to."""
    made = np.array(values, dtype)
    made.flags.writeable = False
    return made


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal; arrays are where shapes and elements are, NaN to NaN."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other, equal_nan=True)
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return False
    return bool(one == other)
