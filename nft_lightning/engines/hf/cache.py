"""A key/value cache that does not copy itself at every token."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import (
    Cache,
    DynamicCache,
    DynamicLayer,
    LinearAttentionCacheLayerMixin,
)

ROOM_TOKENS = 16
SELECTABLE = (DynamicLayer, LinearAttentionCacheLayerMixin)


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
        """Keep only these rows."""
        self.key_room, self.value_room = self.key_room[indices], self.value_room[indices]
        self.show()


def make_room(states: Tensor, least: int = 0) -> Tensor:
    """Return a copy [B, heads, T + room, size] of states [B, heads, T, size]."""
    rows, heads, used, size = states.shape
    room = states.new_empty(rows, heads, used + max(ROOM_TOKENS, least), size)
    room[:, :, :used] = states
    return room


def select(cache: Any, rows: Tensor) -> None:
    """Let each row continue row ``rows[i]`` of before, in place: keys, values and states."""
    for layer in cache.layers:
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            LinearAttentionCacheLayerMixin.reorder_cache(layer, rows)  # type: ignore[arg-type]
        if isinstance(layer, DynamicLayer):
            layer.batch_select_indices(rows)


def with_room(cache: Any, rows: Tensor) -> None:
    """As :func:`select`, with room for more tokens; sliding windows and states keep their own way."""
    roomy: dict[int, RoomyLayer] = {}
    for i, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and layer.get_seq_length() > 0:
            roomy[i] = RoomyLayer(layer, rows)
            # Only a stand-in until the others are selected.
            cache.layers[i] = DynamicLayer()
    select(cache, rows)
    for i, layer in roomy.items():
        cache.layers[i] = layer


def selectable(cache: Any) -> bool:
    """Return whether :func:`select` moves all that this cache holds of a row."""
    # A model's own kind of cache may hold more beside the layers.
    if type(cache) not in (Cache, DynamicCache):
        return False
    return all(isinstance(layer, SELECTABLE) for layer in cache.layers)
