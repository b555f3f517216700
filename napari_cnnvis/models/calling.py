"""What a network is given when it is called: the scan, and what else it asks for."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from napari_cnnvis.errors import MethodError
from napari_cnnvis.models.further_inputs import is_scan_file, numbers_of
from napari_cnnvis.models.number_types import number_type
from napari_cnnvis.models.second_scan import SecondScan
from napari_cnnvis.scan.conform import InputSpec

__all__ = ["PLAIN", "Call", "arguments_of", "ways_to_call"]

#: of a further argument
Values = tuple[float, ...] | SecondScan
#: keys that the scan may have in a dictionary of inputs
_IMAGE_KEYS = ("image", "images", "img", "x", "input", "inputs", "scan", "data", "pixel_values")


@dataclass(frozen=True)
class Call:
    """How a network is called.

    Attributes
    ----------
    key : str
        The scan's key, for a network that takes a dictionary; else "".
    extra : tuple of (name, values, axes)
        Further arguments, held fixed: what they are called, plain numbers or another scan, and
        how many axes the tensor of them has, the batch's included.
    """

    key: str = ""
    extra: tuple[tuple[str, Values, int], ...] = ()

    def run(self, module: nn.Module, x: Tensor) -> Any:
        """What the network gives for inputs (n, c, i, j, k), which get its number type."""
        x = x.to(number_type(module))
        more = {name: _tensor(values, axes, x) for name, values, axes in self.extra}
        if self.key:
            return module({self.key: x, **more})
        return module(x, **more)

    @property
    def values(self) -> dict[str, Any]:
        """The further arguments as they were given: a number, some numbers, or a file."""
        return {name: _plain(values) for name, values, _ in self.extra}

    @property
    def scans(self) -> list[SecondScan]:
        """The further scans among the arguments."""
        return [values for _, values, _ in self.extra if isinstance(values, SecondScan)]

    def with_values(self, extra: Mapping[str, Any]) -> Call:
        """The same call with other numbers for some of its arguments.

        Raises
        ------
        MethodError
            If what is given are not as many numbers.
        """
        changed: list[tuple[str, Values, int]] = []
        for name, values, axes in self.extra:
            new = extra.get(name, _plain(values))
            if isinstance(values, SecondScan):
                if not is_scan_file(new):
                    raise MethodError(
                        f"The argument '{name}' of the network is a scan; give its file, not {new!r}."
                    )
                changed.append((name, replace(values, path=os.fspath(new)), axes))
                continue
            numbers = numbers_of(name, new)
            if len(numbers) != len(values):
                raise MethodError(
                    f"The argument '{name}' of the network takes {len(values)} number(s), not {len(numbers)}."
                )
            changed.append((name, numbers, axes))
        return replace(self, extra=tuple(changed))


#: with the scan and nothing else
PLAIN = Call()


def _plain(values: Values) -> Any:
    if isinstance(values, SecondScan):
        return values.path
    return values[0] if len(values) == 1 else list(values)


def _tensor(values: Values, axes: int, x: Tensor) -> Tensor:
    if isinstance(values, SecondScan):
        return values.tensor(x)
    one = torch.tensor(values, dtype=x.dtype, device=x.device)
    rows = one.expand(x.shape[0], len(values))
    return rows[:, 0] if axes == 1 else rows


def ways_to_call(module: nn.Module, extra: Mapping[str, Any] | None, spec: InputSpec) -> list[Call]:
    """Calls to try, the likeliest first: with the scan, or with a dictionary that holds it.

    A number becomes a tensor (n,) or (n, 1), whichever the network takes; a file the scan in it.

    Raises
    ------
    MethodError
        If a further argument is neither numbers nor a file, or the network knows none of this
        name.
    """
    given: dict[str, Values] = {
        name: SecondScan(os.fspath(value), spec) if is_scan_file(value) else numbers_of(name, value)
        for name, value in (extra or {}).items()
    }
    known = arguments_of(module)
    unknown = [name for name in given if known is not None and name not in known]
    single = {name for name, v in given.items() if not isinstance(v, SecondScan) and len(v) == 1}
    axes = [
        tuple((name, values, axis if name in single else 2) for name, values in given.items())
        for axis in ([1, 2] if single else [2])
    ]
    calls = [] if unknown else [Call("", more) for more in axes]
    if known is not None and len(known) == 1:
        calls += [Call(key, more) for key in _IMAGE_KEYS for more in axes]
    if not calls:
        raise MethodError(
            f"The network takes no argument '{unknown[0]}'; besides the scan it takes "
            f"{', '.join((known or [])[1:11]) or 'nothing'}."
        )
    return calls


def arguments_of(module: nn.Module) -> list[str] | None:
    """Names of the arguments of a network's ``forward``; None if they cannot be known."""
    try:
        parameters = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        return None
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return None
    return [p.name for p in parameters]
