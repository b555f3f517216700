"""What a network's code puts between its scores and its layers, so that no gradient gets there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import checkpoint as checkpointing

__all__ = ["ThroughCuts", "without_checkpoints"]


class _Replaced:
    """Other values of some attributes, for as long as anybody is in the block, in any thread."""

    def __init__(self, owner: Any, **values: Any) -> None:
        self._owner, self._values = owner, values
        self._lock, self._inside = threading.Lock(), 0
        self._before: dict[str, Any] = {}

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._before = {name: getattr(self._owner, name) for name in self._values}
                for name, value in self._values.items():
                    setattr(self._owner, name, value)
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    for name, value in self._before.items():
                        setattr(self._owner, name, value)


class _PlainCall:
    """In the place of reentrant checkpointing: the function is called, and that is all."""

    @staticmethod
    def apply(function: Any, preserve: bool, *args: Any) -> Any:
        return function(*args)


def _nothing_around(*args: Any, **kwargs: Any) -> Iterator[None]:
    """In the place of checkpointing that is not reentrant."""
    yield


#: ``torch.utils.checkpoint.checkpoint`` calls its function plainly, whoever has imported it.
#: Checkpointed code would run again on the way back, without what was hooked in.
without_checkpoints = _Replaced(
    checkpointing,
    CheckpointFunction=_PlainCall,
    _checkpoint_without_reentrant_generator=_nothing_around,
)

_without_inference_mode = _Replaced(torch._C, _InferenceMode=lambda mode: contextlib.nullcontext())


class ThroughCuts(TorchFunctionMode):
    """Inside the block ``no_grad``, ``inference_mode``, ``detach`` and ``.data`` cut nothing off."""

    def __enter__(self) -> Any:
        self._replaced = _without_inference_mode()
        self._replaced.__enter__()
        return super().__enter__()

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        self._replaced.__exit__(*exc)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if func is torch._C._set_grad_enabled and not args[0]:
            return None
        if name in ("detach", "detach_"):
            return args[0]
        if name == "__get__" and getattr(func, "__self__", None) is torch.Tensor.data:
            return args[0]
        if name == "requires_grad_" and args[1:2] != () and not args[1]:
            return args[0]
        return func(*args, **(kwargs or {}))
