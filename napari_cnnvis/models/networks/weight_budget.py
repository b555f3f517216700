"""How large a network may get while it is made: not much larger than the weights that it is for."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["TooLarge", "WeightBudget"]

#: what makes a tensor of a given size
_MAKERS = re.compile(
    "(new_)?(empty|empty_strided|zeros|ones|full)|rand|randn|randint|randperm|arange|linspace|eye"
)
#: a network that does not fit its file is still made, so that what differs can be said
_TIMES, _MORE = 8, 2**26
_TIMES_TENSORS, _MORE_TENSORS = 50, 20_000


class TooLarge(Exception):
    """A network has many more weights than its file."""


class WeightBudget(TorchDispatchMode):
    """Inside the block no more tensors are made than a network for some weights can need.

    Parameters
    ----------
    tensors : iterable of Tensor
        The weights in the file.

    Raises
    ------
    TooLarge
        Before memory is taken for more.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        sizes = [t.numel() for t in tensors]
        self._in_file = sum(sizes)
        self._numbers = _TIMES * self._in_file + _MORE
        self._tensors = _TIMES_TENSORS * len(sizes) + _MORE_TENSORS

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if _MAKERS.fullmatch(func.overloadpacket.__name__):
            self._numbers -= _size(args)
            self._tensors -= 1
            if self._numbers < 0 or self._tensors < 0:
                raise TooLarge(
                    f"it has many more weights than the file, which holds {self._in_file:,}"
                )
        return func(*args, **(kwargs or {}))


def _size(arguments: tuple[Any, ...]) -> int:
    """Numbers in the tensor that a call makes."""
    shapes = [a for a in arguments if isinstance(a, list | tuple)]
    if shapes:
        return math.prod(shapes[0])
    return math.ceil(max((abs(a) for a in arguments if isinstance(a, int | float)), default=0))
