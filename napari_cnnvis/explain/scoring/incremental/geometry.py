"""Which box of an operation's output a changed box of its input can reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Window", "common"]


@dataclass(frozen=True, eq=False)
class Window:
    """A sliding window: a convolution, a pooling, or padding (a window of one voxel).

    Output position o covers the input positions
    ``o * stride - before + dilation * (0 .. kernel - 1)`` along each axis.

    Attributes
    ----------
    kernel, stride, dilation, before, after : array, int64, shape (3,)
        `before` and `after` are the padding.
    fill : float
        What lies in the padding.
    inputs, outputs : array, int64, shape (3,)
        Positions along each axis.
    """

    kernel: np.ndarray
    stride: np.ndarray
    dilation: np.ndarray
    before: np.ndarray
    after: np.ndarray
    fill: float
    inputs: np.ndarray
    outputs: np.ndarray

    @property
    def reach(self) -> np.ndarray:
        """Input positions from the first to the last of one window, shape (3,)."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def one_voxel(self) -> bool:
        """True if each output position sees exactly the same position of the input."""
        return bool(
            (self.kernel == 1).all() and (self.stride == 1).all() and not self.before.any()
        ) and bool((self.inputs == self.outputs).all())

    def touched(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Output boxes that see any of the input boxes ``low <= i < high``, shapes (n, 3).

        A box always begins early enough that the windows of its positions begin at or
        before `low`, and it may be empty.
        """
        first = -((self.reach - 1 - low - self.before) // self.stride)  # rounded up
        first = np.minimum(first, (low + self.before) // self.stride)
        last = (high - 1 + self.before) // self.stride
        first = np.clip(first, 0, self.outputs)
        return first, np.clip(last + 1, first, self.outputs)

    def needed(self, low: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First input position (n, 3) and number of positions (3,) for output boxes of `size`.

        As many positions after the last window as do not make another window come
        along, so that whatever box gave rise to the output box lies inside.
        """
        return low * self.stride - self.before, (size - 1) * self.stride + self.reach + (
            self.stride - 1
        )

    @property
    def margin(self) -> tuple[np.ndarray, np.ndarray]:
        """Padding that `needed` may reach into before and after the input, shapes (3,)."""
        return np.maximum(self.before, 0), np.maximum(self.after, 0) + self.stride - 1


def common(low: np.ndarray, high: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of one size, row by row, that hold those given and do not reach over the grid.

    Parameters
    ----------
    low, high : arrays, shape (n, 3)
    grid : array, shape (3,)
        Positions along each axis.

    Returns
    -------
    low : array, shape (n, 3)
    size : array, shape (3,)
        Never empty.
    """
    size = np.maximum((high - low).max(axis=0), 1)
    return np.minimum(low, grid - size), size
