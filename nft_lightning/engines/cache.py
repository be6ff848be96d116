"""A key/value cache that does not copy itself at every token."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer

ROOM_TOKENS = 16


class RoomyLayer(DynamicLayer):
    """One layer's keys and values [rows, heads, tokens, head size], with room for a few tokens more.

    transformers' own layer concatenates at every token, which copies the whole cache each time;
    room for all tokens at once would spread the used part thin, which makes attention slower.

    Args:
        layer: a filled layer. rows: [B], which of its rows each new row continues.
    """

    def __init__(self, layer: DynamicLayer, rows: Tensor) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = layer.dtype, layer.device, True
        self.used = layer.get_seq_length()
        assert layer.keys is not None
        assert layer.values is not None
        self.key_room = make_room(layer.keys[rows])
        self.value_room = make_room(layer.values[rows])
        self.show()

    def show(self) -> None:
        """``keys`` and ``values`` are views of the part in use."""
        self.keys = self.key_room[:, :, : self.used]
        self.values = self.value_room[:, :, : self.used]

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Write the new tokens behind the old."""
        start, self.used = self.used, self.used + key_states.shape[-2]
        if self.used > self.key_room.shape[-2]:
            self.key_room = make_room(self.key_room[:, :, :start], key_states.shape[-2])
            self.value_room = make_room(self.value_room[:, :, :start], key_states.shape[-2])
        self.key_room[:, :, start : self.used] = key_states
        self.value_room[:, :, start : self.used] = value_states
        self.show()
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows alone."""
        self.key_room, self.value_room = self.key_room[indices], self.value_room[indices]
        self.show()


def make_room(states: Tensor, least: int = 0) -> Tensor:
    """A copy [B, heads, T + room, size] of states [B, heads, T, size]."""
    rows, heads, used, size = states.shape
    room = states.new_empty(rows, heads, used + max(ROOM_TOKENS, least), size)
    room[:, :, :used] = states
    return room


def with_room(cache: Any, rows: Tensor) -> None:
    """Let each row continue one of ``cache``'s, in place; sliding windows keep their own way."""
    for i, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and layer.get_seq_length() > 0:
            cache.layers[i] = RoomyLayer(layer, rows)
        else:
            layer.batch_select_indices(rows)
