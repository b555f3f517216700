"""The plain 3D CNNs of ClinicaDL 1.x, with its names of weights.

References
----------
.. [1] E. Thibeau-Sutre et al., "ClinicaDL: an open-source deep learning software for
   reproducible neuroimaging processing", Computer Methods and Programs in Biomedicine
   220, 2022.
.. [2] J. Wen et al., "Convolutional neural networks for classification of Alzheimer's
   disease: overview and reproducible evaluation", Medical Image Analysis 63, 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Conv4_FC3", "Conv5_FC3", "PadMaxPool3d"]

#: voxels of the cropped images of ClinicaDL's t1-linear preprocessing
CROPPED_MNI = (169, 208, 179)
_WIDTHS = (8, 16, 32, 64, 128)


class PadMaxPool3d(nn.Module):
    """Maximum of 2 x 2 x 2 cells; axes of odd length get a zero in front, so no cell is lost."""

    def forward(self, x: Tensor) -> Tensor:
        i, j, k = (n % 2 for n in x.shape[-3:])
        if i or j or k:
            x = functional.pad(x, (k, 0, j, 0, i, 0))
        return functional.max_pool3d(x, 2)


class _ConvolutionsAndDense(nn.Module):
    """Five convolutions, each with batch norm, ReLU and pooling, then three dense layers."""

    _hidden: ClassVar[tuple[int, int]]

    def __init__(
        self,
        in_channels: int = 1,
        n_classes: int = 2,
        shape: Sequence[int] = CROPPED_MNI,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"the input shape {tuple(shape)} is not three positive numbers")
        #: the only input shape that fits
        self.required_shape = tuple(shape)
        layers: list[nn.Module] = []
        channels, cells = in_channels, list(shape)
        for width in _WIDTHS:
            layers += [
                nn.Conv3d(channels, width, 3, padding=1),
                nn.BatchNorm3d(width),
                nn.ReLU(),
                PadMaxPool3d(),
            ]
            channels, cells = width, [(n + 1) // 2 for n in cells]
        self.convolutions = nn.Sequential(*layers)
        first, second = self._hidden
        self.fc = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(channels * prod(cells), first),
            nn.ReLU(),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Linear(second, n_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.convolutions(x))


class Conv5_FC3(_ConvolutionsAndDense):
    """ClinicaDL's default network: five convolutions, dense layers of 1300, 50 and n_classes.

    Maps (n, in_channels, \\*shape) to logits (n, n_classes).

    Parameters
    ----------
    in_channels, n_classes : int
        Number of input channels and of classes.
    shape : (int, int, int)
        Voxels of the input.
    dropout : float
        Share of the features that training leaves out before the dense layers.
    """

    _hidden = (1300, 50)


class Conv4_FC3(_ConvolutionsAndDense):
    """ClinicaDL's network for patches and regions: dense layers of 50, 40 and n_classes.

    Despite its name it has five convolutions, the same as `Conv5_FC3`, in every
    version 1.x. Maps (n, in_channels, \\*shape) to logits (n, n_classes).

    Parameters
    ----------
    in_channels, n_classes : int
        Number of input channels and of classes.
    shape : (int, int, int)
        Voxels of the input.
    dropout : float
        Share of the features that training leaves out before the dense layers.
    """

    _hidden = (50, 40)
