"""What is found of a network by running it on shapes: how it is called, which inputs fit, what it gives."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from napari_cnnvis.errors import ComputeError, MethodError, shortened, some_of
from napari_cnnvis.models.calling import ways_to_call
from napari_cnnvis.models.execution import WrongArguments, inspecting, plain_errors
from napari_cnnvis.models.layers import NetworkLayers, TargetLayer, find_layers, input_channels
from napari_cnnvis.models.number_types import number_type, widened
from napari_cnnvis.models.scores import Reading, choose_part, find_end
from napari_cnnvis.scan.conform import InputSpec

__all__ = ["COMMON_SHAPES", "InputMisfit", "ProbedNetwork", "probed"]

#: grid on which the layers are listed if the network takes any size and none was asked for
_ANY_SHAPE = (110, 110, 110)
#: input shapes that are tried for networks that cannot take any: cubes, then MNI152 at 1, 1.5
#: and 2 mm and other templates
COMMON_SHAPES = (
    *(
        (n, n, n)
        for n in (96, 128, 64, 110, 112, 100, 80, 160, 192, 224, 256, 72, 48, 32, 120, 144)
    ),
    *((182, 218, 182), (193, 229, 193), (197, 233, 189), (169, 208, 179), (181, 217, 181)),
    *((121, 145, 121), (113, 137, 113), (91, 109, 91), (160, 192, 160), (176, 208, 176)),
    *((160, 192, 224), (160, 224, 192), (128, 160, 128), (96, 112, 96), (79, 95, 79)),
)


class InputMisfit(ComputeError):
    """A network cannot take an input of this shape or number of channels.

    Attributes
    ----------
    fits : (int, int, int) or None
        A shape that it can take.
    """

    def __init__(self, text: str, fits: tuple[int, int, int] | None) -> None:
        super().__init__(text)
        self.fits = fits


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _random_inputs(shape: tuple[int, ...]) -> list[torch.Tensor]:
    """Three unlike inputs, the same in each run."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(shape, generator=generator)
    return [noise, torch.zeros(shape), 3 * torch.randn(shape, generator=generator)]


def probed(
    module: nn.Module, name: str, spec: InputSpec, extra: Mapping[str, Any] | None
) -> ProbedNetwork:
    """The network, or a copy in float32 of one in half precision; see `ProbedNetwork`."""
    wide = widened(module)
    if wide is not None:
        with contextlib.suppress(ComputeError):  # its code may want half precision
            found = ProbedNetwork(wide, name, spec, extra)
            kind = str(number_type(module)).removeprefix("torch.")
            found.notes += (f"The network's weights are {kind}; it is computed in float32.",)
            return found
    return ProbedNetwork(module, name, spec, extra)


class ProbedNetwork:
    """A network, how it is called, and what it has for inputs of each shape.

    Parameters
    ----------
    module : nn.Module
    name : str
        For messages.
    spec : InputSpec
        If it has no shape and the network cannot take any, a common shape that fits is looked
        for.
    extra : mapping, optional
        Further arguments of the network.

    Attributes
    ----------
    module : nn.Module
    call : Call
    spec : InputSpec
    notes : tuple of str

    Raises
    ------
    ComputeError
        If the network cannot take such an input.
    MethodError
        If it takes no such further arguments.
    """

    def __init__(
        self, module: nn.Module, name: str, spec: InputSpec, extra: Mapping[str, Any] | None
    ) -> None:
        self.module, self._name = module, name
        self._layers = lru_cache(maxsize=8)(self._find_layers)
        first: ComputeError | None = None
        for call in ways_to_call(module, extra, spec):
            self.call = call
            self._layers.cache_clear()
            try:
                self.spec, self.notes = self._fitting(spec)
                return
            except ComputeError as exc:
                another_way = isinstance(exc, WrongArguments) or call.extra
                if first is None and not another_way:
                    raise
                first = first or exc
        assert first is not None
        raise first

    def _fitting(self, spec: InputSpec) -> tuple[InputSpec, tuple[str, ...]]:
        """`spec`, with a shape that the network can take if it has none and cannot take any."""
        if spec.net_shape is not None:
            self.layers_for(spec.net_shape, spec.channels)
            return spec, ()
        try:
            self._layers(_ANY_SHAPE, spec.channels)
        except WrongArguments:
            raise
        except ComputeError:
            shape = self.shape_that_fits(spec.channels)
        else:
            return spec, ()
        if shape is None:
            self.layers_for(_ANY_SHAPE, spec.channels)  # raises what is wrong
            return spec, ()
        note = (
            f"{self._name} cannot take scans of any size; they are padded or cropped to "
            f"{_times(shape)} voxels, which it can take. Set the input's shape to the "
            "one it was trained with."
        )
        return replace(spec, shape=shape), (note,)

    def shape_that_fits(self, channels: int = 1) -> tuple[int, int, int] | None:
        """The first of the common input shapes that the network can take, or None."""
        for shape in COMMON_SHAPES:
            try:
                self._layers(shape, channels)
            except ComputeError:
                continue
            return shape
        return None

    def layers(self, shape: tuple[int, int, int] | None = None) -> NetworkLayers:
        """Target layers with output shapes, and whether CAM applies, for inputs of `shape`."""
        return self.layers_for(self.spec.net_shape or shape or _ANY_SHAPE, self.spec.channels)

    def layer(self, name: str, shape: tuple[int, int, int] | None = None) -> TargetLayer:
        """The layer called `name`: a target layer, or any other whose output is a map.

        Raises
        ------
        MethodError
            If there is none.
        """
        layers = self.layers(shape)
        for target in layers.targets:
            if target.name == name:
                return target
        if name in layers.others:
            return layers.others[name]
        known = [target.name for target in layers.targets]
        if name not in dict(self.module.named_modules()):
            raise MethodError(
                f"{self._name} has no layer '{shortened(name, 60)}'; it has "
                f"{some_of([*known, *get_close_matches(name, list(layers.others))], name)}."
            )
        why = "gives no map, one value for each channel and place in the scan"
        if name in layers.without_effect:
            why = "has no say in the scores at the scan's places"
        raise MethodError(
            f"{name or 'The whole network'} {why}; choose a layer such as {some_of(known, name)}."
        )

    def layers_for(self, shape: tuple[int, int, int], channels: int) -> NetworkLayers:
        """The layers for such an input.

        Raises
        ------
        InputMisfit
            If the network cannot take it, with what it can take.
        """
        try:
            return self._layers(tuple(shape), channels)
        except ComputeError as exc:
            needed = input_channels(self.module)
            if channels != needed:
                raise InputMisfit(
                    f"{self._name} takes {needed} input channel(s), not {channels}.", None
                ) from exc
            fits = self.shape_that_fits(channels)
            if fits is None:
                raise
            raise InputMisfit(
                f"{self._name} cannot take an input of {_times(shape)} voxels. It can take "
                f"{_times(fits)}: set the input's shape to that, or to the one it was trained with.",
                fits,
            ) from exc

    def _find_layers(self, shape: tuple[int, int, int], channels: int) -> NetworkLayers:
        found = find_layers(self.module, (channels, *shape), self.call)
        if len(found.parts) == 1 and found.parts[0].rows > 1:
            choose = f"{found.parts[0].rows} rows of scores for one scan of {_times(shape)} voxels"
            raise ComputeError(
                f"{self._name} gives {choose}: part of the space has become the batch (a view "
                "or reshape with -1 in its code). Set the input's shape to the one it was trained with."
            )
        return found

    def reading(
        self,
        class_names: Sequence[str] | None,
        output: str | None,
        scores: str | None,
        place: Callable[[torch.Tensor], torch.Tensor],
    ) -> Reading:
        """Which part of the output is the scores, and what the network applies to them last.

        `place` brings an input to where the network is.

        Raises
        ------
        MethodError
            If nothing is, or several parts can be and nothing says which.
        """
        layers = self.layers()
        try:
            part = choose_part(layers.parts, len(class_names or ()) or None, scores or None)
        except MethodError as exc:
            raise MethodError(f"{self._name} cannot be explained. {exc}") from exc
        reading = Reading(part, self.call, dict(layers.ends)[part.name])
        if output in ("regression", "probabilities"):
            return replace(reading, ends_in="")
        if not layers.squashes:
            return reading
        shape = self.spec.net_shape or self._small_shape() or _ANY_SHAPE
        inputs = _random_inputs((1, self.spec.channels, *shape))
        with inspecting(self.module), torch.no_grad(), plain_errors("looking at its outputs"):
            found = find_end(reading, self.module, [place(x) for x in inputs])
        found = found if found.ends_in else reading
        # over windows the network's own outputs are averaged
        return found if self.spec.window is None else found.as_given()

    def smaller_than(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A cube that the network takes as well, if that is smaller along each axis; else `shape`."""
        if self.spec.window is not None:
            return shape
        small = self._small_shape()
        return shape if small is None or max(small) >= min(shape) else small

    def _small_shape(self) -> tuple[int, int, int] | None:
        """The smallest cube that the network can take, of some usual sizes; or None."""
        for n in (32, 48, 64, 96):
            try:
                self._layers((n, n, n), self.spec.channels)
            except ComputeError:
                continue
            return n, n, n
        return None

    def said_of(self, reading: Reading) -> tuple[str, ...]:
        """How the network is called and read, where that is not plain."""
        notes = []
        if self.call.key:
            notes.append(f"The network takes a dictionary; the scan is its '{self.call.key}'.")
        if len(self.layers().parts) > 1:
            notes.append(f"Of what the network gives, '{reading.part.name}' is the scores.")
        if self.layers().random:
            notes.append(
                "The network stays random in evaluation mode (dropout or noise): each run gives "
                "other numbers."
            )
        return tuple(notes)
