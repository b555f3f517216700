"""A score and its gradient with respect to the network's input."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from napari_cnnvis.errors import ComputeError, MethodError
from napari_cnnvis.models.execution import OutOfMemory, inspecting, plain_errors
from napari_cnnvis.models.gradient_flow import ThroughCuts
from napari_cnnvis.models.model import Model
from napari_cnnvis.models.windows import window_slices

__all__ = ["ScoreGradient"]


class ScoreGradient:
    """Runs a network forward and back, one input at a time.

    Over sliding windows the score is that of the mean of the windows' outputs; its gradient is
    the exact one, window by window.

    Parameters
    ----------
    model : Model
    target : int
    score : str

    Attributes
    ----------
    through_cuts : bool
        Whether the network's code cuts gradients off, so that they were taken through.
    """

    def __init__(self, model: Model, target: int, score: str) -> None:
        self._model, self._target, self._score = model, target, score
        self.through_cuts = False

    def __call__(self, x: Tensor) -> tuple[float, Tensor]:
        """The score of an input (1, c, i, j, k), and its gradient, of the same shape.

        Raises
        ------
        MethodError
            If no gradient gets to the input.
        ComputeError
            If the network cannot run or memory runs out.
        """
        places = list(self._places(x))
        with torch.no_grad():
            raw = torch.stack([self._raw(x[place]) for place in places]) if places[1:] else None
        gradient = torch.zeros_like(x)
        value = 0.0
        mean = None if raw is None else raw.mean(0)
        for place in places:
            value, piece = self._piece(x[place], mean, len(places))
            gradient[place] += piece
        return value, gradient

    def score(self, x: Tensor) -> float:
        """The score alone."""
        raw = self._model.logits(x)
        return float(self._model.outputs.score(raw, self._target, self._score)[0])

    def _places(self, x: Tensor) -> Iterator[tuple[slice, ...]]:
        spec = self._model.input_spec
        if spec.window is None:
            yield (slice(None),) * x.ndim
            return
        for place in window_slices(tuple(x.shape[2:]), spec.window, spec.overlap):
            yield (slice(None), slice(None), *place)

    def _raw(self, x: Tensor) -> Tensor:
        model = self._model
        with inspecting(model.module), plain_errors("running"):
            return model.reading.run(model.module, x.clone())

    def _piece(self, x: Tensor, mean: Tensor | None, n: int) -> tuple[float, Tensor]:
        """The score, and its gradient with respect to one of the windows."""
        if not self.through_cuts:
            with contextlib.suppress(_NoGradient):
                return self._back(x, mean, n)
            self.through_cuts = True
        try:
            return self._back(x, mean, n)
        except _NoGradient as exc:
            raise MethodError(
                f"No gradient of the score gets to the input of {self._model.architecture}: its code has "
                "operations without one (argmax, rounding, a way through numpy). Use sensitivity or box "
                "occlusion."
            ) from exc

    def _back(self, x: Tensor, mean: Tensor | None, n: int) -> tuple[float, Tensor]:
        model = self._model
        through = ThroughCuts() if self.through_cuts else contextlib.nullcontext()
        given = x.detach().clone().requires_grad_(True)
        try:
            with (
                inspecting(model.module),
                torch.enable_grad(),
                plain_errors("back-propagating to the input"),
                through,
            ):
                # a network may write into its input, which must not be a leaf then
                raw = model.reading.run(model.module, given.clone())
                if mean is not None:  # of all windows, of which this one is a share
                    raw = mean + (raw - raw.detach()) / n
                value = model.outputs.score(raw, self._target, self._score)[0]
                if not value.requires_grad:
                    raise _NoGradient
                (gradient,) = torch.autograd.grad(value, [given], allow_unused=True)
        except OutOfMemory:
            raise
        except ComputeError as exc:
            text = str(exc.__cause__).lower()
            if not any(words in text for words in ("inference tensor", "require")):
                raise
            raise _NoGradient from exc
        if gradient is None:
            raise _NoGradient
        return float(value.detach()), gradient.detach()


class _NoGradient(Exception):
    """None gets to the input."""
