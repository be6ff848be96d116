"""Where a completion ends: token ids and stop strings, the same for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import DecodeStream

from nft_lightning.types import Sampling

# What the tokenizers library says where bytes that came before were no text.
BROKEN_STREAM = "Invalid prefix encountered"


def end_ids(model: Any, tokenizer: Any, also: Sequence[int] = ()) -> tuple[int, ...]:
    """Return every token id that ends a completion, in rising order.

    Args:
        model: its ``generation_config`` may name one id or several; those beyond its vocabulary,
            which it can never write, are left out.
        tokenizer: gives the end-of-sequence token.
        also: ids of ``rollout.stop_token_ids``.
    """
    found = {int(i) for i in also}
    if tokenizer.eos_token_id is not None:
        found.add(int(tokenizer.eos_token_id))
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if named is not None:
        found |= {int(i) for i in (named if isinstance(named, list | tuple) else [named])}
    config = getattr(model, "config", None)
    size = None
    if config is not None:
        config = config.get_text_config() if hasattr(config, "get_text_config") else config
        size = getattr(config, "vocab_size", None)
    return tuple(sorted(i for i in found if i >= 0 and (size is None or i < size)))


def stop_options(ends: Sequence[int], sampling: Sampling) -> dict[str, Any]:
    """Return vLLM's sampling parameters for these ends.

    What vLLM itself knows of ends, from the model's configs, is ignored: the trainer decides. A
    completion keeps the token that ends it. Stop strings need vLLM's detokenizer, which otherwise
    has nothing to do.
    """
    options: dict[str, Any] = {
        "stop_token_ids": sorted({*ends, *sampling.stop_token_ids}),
        "ignore_eos": True,
        "detokenize": bool(sampling.stop),
    }
    if sampling.stop:
        options |= {"stop": list(sampling.stop), "include_stop_str_in_output": True}
    return options


class StopWatch:
    """Finds the token that completes a stop string in a text.

    Text comes token by token as vLLM's detokenizer makes it: without special tokens, behind the
    prompt. A token that completes a stop string belongs to the completion, whatever follows the
    string within that token.

    Args:
        tokenizer: transformers' tokenizer.
        stop: the strings. prompt: the ids in front.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str], prompt: Sequence[int]) -> None:
        self.tokenizer, self.stop = tokenizer, tuple(stop)
        self.backend = getattr(tokenizer, "backend_tokenizer", None)
        self.longest = max(map(len, self.stop))
        self.text, self.ids, self.decoded = "", list(prompt), 0
        if self.backend is not None:
            self.stream = DecodeStream(ids=list(prompt), skip_special_tokens=True)
        else:
            self.decoded = len(self.whole())

    def add(self, token: int) -> bool:
        """Take the next token; return whether the completion ends with it."""
        piece = self.piece(token)
        if not piece:
            return False
        self.text = self.text[-(self.longest - 1) :] + piece if self.longest > 1 else piece
        return any(s in self.text for s in self.stop)

    def piece(self, token: int) -> str:
        """Return the text that the token adds; none while a character is incomplete."""
        if self.backend is None:
            return self.slow_piece(token)
        try:
            return self.stream.step(self.backend, token) or ""
        except Exception as error:
            if not str(error).startswith(BROKEN_STREAM):
                raise
        self.stream = DecodeStream(skip_special_tokens=True)
        return self.stream.step(self.backend, token) or ""

    def slow_piece(self, token: int) -> str:
        """Return the same from a tokenizer that is not of the tokenizers library."""
        self.ids.append(token)
        whole = self.whole()
        if whole.endswith("\ufffd"):
            return ""
        found = whole[self.decoded :]
        self.decoded = len(whole)
        return found

    def whole(self) -> str:
        """Return prompt and completion so far as text."""
        return str(self.tokenizer.decode(self.ids, skip_special_tokens=True))
