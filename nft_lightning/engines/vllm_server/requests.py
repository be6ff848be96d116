"""One request for completions, token ids in and out, and the checks of its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nft_lightning.engines.base import Prompt
from nft_lightning.engines.ends import stop_options
from nft_lightning.engines.vllm_server.http import Server, ServerError
from nft_lightning.types import Sampling

# Token ids [T], their log-probabilities [T], and whether the limit cut the completion.
Written = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], bool]


@dataclass(frozen=True)
class Request:
    """A prompt and the seeds of its completions, of which the first draws all."""

    prompt: Prompt
    seeds: tuple[int, ...]
    sampling: Sampling
    ends: tuple[int, ...]

    @property
    def samples(self) -> int:
        """Return how many vLLM is to write: one where it is greedy, since the others would be the
        same.
        """
        return len(self.seeds) if self.sampling.temperature else 1

    def body(self) -> dict[str, Any]:
        """As vLLM's ``/inference/v1/generate`` takes it."""
        return {
            "token_ids": self.prompt,
            "sampling_params": {
                "n": self.samples,
                "seed": self.seeds[0],
                "temperature": self.sampling.temperature,
                "top_p": self.sampling.top_p,
                "top_k": self.sampling.top_k,
                "max_tokens": self.sampling.max_new_tokens,
                "logprobs": 0,
                **stop_options(self.ends, self.sampling),
            },
        }


def ask(server: Server, request: Request, label: str, seconds: float) -> list[Written]:
    """Return the completions of one prompt, all written by the weights known as ``label``.

    Raises:
        ServerError: what came is late, incomplete, of another form, or from other weights.
        EngineError: the server refused.
    """
    answer = server.call("POST", "/inference/v1/generate", request.body(), seconds=seconds)
    try:
        written, versions, ends = read_choices(answer)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ServerError(
            server.address,
            f"answered in a form that is not vLLM's ({type(error).__name__}: {error})",
            "check its version: rollout=vllm_server was tested with vLLM 0.32",
        ) from error
    asked = request.samples
    if len(written) != asked:
        raise ServerError(
            server.address,
            f"returned {len(written)} completions where {asked} were asked",
            "see its log",
        )
    if others := ends - {"stop", "length"}:
        raise ServerError(server.address, f"broke off a completion ({others.pop()})", "see its log")
    if versions != {label}:
        raise ServerError(
            server.address,
            f"wrote with weights {', '.join(sorted(versions))!r} where {label!r} were synced",
            "it was restarted, or another run uses it",
            gone=True,
        )
    return written * (len(request.seeds) // asked)


def read_choices(answer: Any) -> tuple[list[Written], set[str], set[str]]:
    """Return completions in the order of their index, the weights that wrote them, and how they
    ended.
    """
    written, versions, ends = [], set(), set()
    for choice in sorted(answer["choices"], key=lambda c: int(c["index"])):
        ids = np.array([int(token) for token in choice["token_ids"]], np.int32)
        content = choice["logprobs"]["content"]
        logprobs = np.array([float(at["logprob"]) for at in content], np.float32)
        if len(ids) != len(logprobs) or len(ids) == 0:
            raise ValueError(f"{len(ids)} tokens with {len(logprobs)} log-probabilities")
        versions |= {str(span["version"]) for span in choice["weight_versions"]}
        ends.add(str(choice["finish_reason"]))
        written.append((ids, logprobs, choice["finish_reason"] != "stop"))
    return written, versions, ends
