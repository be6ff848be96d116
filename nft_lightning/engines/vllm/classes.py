"""Keeps vLLM's changes to transformers' classes away from the trainer's model.

Where vLLM has no code of its own for a model, it runs transformers' and decorates the decoder's class in
place: its bases, ``__init__`` and ``__call__``. The trainer's model is of that class too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from nft_lightning.engines.vllm.private_vllm import DECORATE

MISSING = object()


class Decorated:
    """One class, as it was before vLLM decorated it."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.bases = cls.__bases__
        self.own = dict(vars(cls))

    def put_back(self) -> type | None:
        """Undo the decoration; a subclass that has it instead, None where there is none."""
        cls = self.cls
        changed = {k: v for k, v in vars(cls).items() if self.own.get(k, MISSING) is not v}
        added = tuple(base for base in cls.__bases__ if base not in self.bases)
        changed = {k: v for k, v in changed.items() if not k.startswith("__") or callable(v)}
        if not changed and not added:
            return None
        for name in changed:
            if name in self.own:
                setattr(cls, name, self.own[name])
            else:
                delattr(cls, name)
        cls.__bases__ = self.bases
        body = {**changed, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
        return type(cls.__name__, (cls, *added), body)


@contextmanager
def own_classes() -> Iterator[None]:
    """Inside, a model that vLLM builds gets decorated subclasses; transformers' classes stay."""
    from vllm.model_executor.models.transformers.base import Base

    decorate: Any = getattr(Base, DECORATE)
    build: Any = Base.__init__
    before: dict[type, Decorated] = {}

    def remembered(self: Any, cls: type, *args: Any, **options: Any) -> Any:
        before.setdefault(cls, Decorated(cls))
        return decorate(self, cls, *args, **options)

    def built(self: Any, *args: Any, **options: Any) -> None:
        try:
            build(self, *args, **options)
        finally:
            subclasses = {cls: known.put_back() for cls, known in before.items()}
            before.clear()
        for module in nn.Module.modules(self):
            if subclass := subclasses.get(type(module)):
                module.__class__ = subclass

    setattr(Base, DECORATE, remembered)
    Base.__init__ = built
    try:
        yield
    finally:
        setattr(Base, DECORATE, decorate)
        Base.__init__ = build
