"""The three networks of Yang, Rangarajan and Ranka (2018), after Korolev et al. (2017).

Module names are the layer names of the reference implementation, so that a
target layer can be named as in the papers. All networks return logits.

References
----------
.. [1] C. Yang, A. Rangarajan, S. Ranka, "Visual explanations from deep 3D
   convolutional neural networks for Alzheimer's disease classification",
   arXiv:1803.02544, 2018.
.. [2] S. Korolev et al., "Residual and plain convolutional neural networks for
   3D brain MRI classification", arXiv:1701.06643, 2017.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

__all__ = ["ElementwiseSum", "VoxResNet", "VoxResNetGAP", "VoxVGG"]

#: epsilon of Lasagne's BatchNormLayer, which stores 1 / sqrt(var + 1e-4)
LASAGNE_BN_EPS = 1e-4


class ElementwiseSum(nn.Module):
    """Sum of two tensors of the same shape (the end of a residual block)."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class VoxVGG(nn.Sequential):
    """Plain 3D VGG-like network: ten unpadded 3x3x3 convolutions in four groups.

    Maps (n, in_channels, 110, 110, 110) to logits (n, n_classes). Every
    convolution ``convXy`` is followed by ``reluXy``; ``pool4`` leaves one
    position, so the input has to be 110 voxels (or 100 to 115) on each side.

    Parameters
    ----------
    in_channels, n_classes : int
        Number of input channels and of classes.
    """

    #: the only input shape that fits, or None
    required_shape = (110, 110, 110)

    def __init__(self, in_channels: int = 1, n_classes: int = 2) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = in_channels
        for group, (width, letters) in enumerate(
            [(8, "ab"), (16, "ab"), (32, "abc"), (64, "abc")], start=1
        ):
            for letter in letters:
                layers[f"conv{group}{letter}"] = nn.Conv3d(channels, width, 3)
                layers[f"relu{group}{letter}"] = nn.ReLU()
                channels = width
            layers[f"pool{group}"] = nn.MaxPool3d(2)
        layers["flatten"] = nn.Flatten()
        layers["dense1"] = nn.Linear(64, 128)
        layers["dense1_relu"] = nn.ReLU()  # before the BatchNorm, as in the reference
        layers["bn"] = nn.BatchNorm1d(128, eps=LASAGNE_BN_EPS)
        layers["dropout"] = nn.Dropout(0.7)
        layers["dense2"] = nn.Linear(128, 64)
        layers["dense2_relu"] = nn.ReLU()
        layers["prob"] = nn.Linear(64, n_classes)
        super().__init__(layers)


class _VoxResNetBase(nn.Module):
    """What both residual networks share: building and running pre-activation layers."""

    def _add_bn_relu(self, name: str, channels: int) -> None:
        self.add_module(f"bn{name}", nn.BatchNorm3d(channels, eps=LASAGNE_BN_EPS))
        self.add_module(f"relu{name}", nn.ReLU())

    def _add_stem(self, in_channels: int) -> None:
        self.conv1a = nn.Conv3d(in_channels, 32, 3, padding=1)
        self._add_bn_relu("1a", 32)
        self.conv1b = nn.Conv3d(32, 32, 3, padding=1)
        self._add_bn_relu("1b", 32)
        self.conv1c = nn.Conv3d(32, 64, 3, stride=2, padding=1)
        self._add_block(2, 64)
        self._add_block(3, 64)
        self._add_bn_relu("4", 64)

    def _add_block(self, number: int, channels: int) -> None:
        for half in (1, 2):
            self.add_module(
                f"voxres{number}_bn{half}", nn.BatchNorm3d(channels, eps=LASAGNE_BN_EPS)
            )
            self.add_module(f"voxres{number}_relu{half}", nn.ReLU())
            self.add_module(
                f"voxres{number}_conv{half}", nn.Conv3d(channels, channels, 3, padding=1)
            )
        self.add_module(f"voxres{number}_out", ElementwiseSum())

    def _block(self, number: int, x: Tensor) -> Tensor:
        y = x
        for half in (1, 2):
            for part in ("bn", "relu", "conv"):
                y = self.get_submodule(f"voxres{number}_{part}{half}")(y)
        return self.get_submodule(f"voxres{number}_out")(x, y)

    def _bn_relu(self, name: str, x: Tensor) -> Tensor:
        return self.get_submodule(f"relu{name}")(self.get_submodule(f"bn{name}")(x))

    def _stem(self, x: Tensor) -> Tensor:
        x = self._bn_relu("1a", self.conv1a(x))
        x = self._bn_relu("1b", self.conv1b(x))
        x = self._block(3, self._block(2, self.conv1c(x)))
        return self._bn_relu("4", x)


class VoxResNet(_VoxResNetBase):
    """3D residual network with six pre-activation blocks.

    Maps (n, in_channels, 110, 110, 110) to logits (n, n_classes). The output of
    block N is the module ``voxresN_out``.

    Parameters
    ----------
    in_channels, n_classes : int
        Number of input channels and of classes.
    """

    #: the only input shape that fits, or None
    required_shape = (110, 110, 110)

    def __init__(self, in_channels: int = 1, n_classes: int = 2) -> None:
        super().__init__()
        self._add_stem(in_channels)
        self.conv4 = nn.Conv3d(64, 64, 3, stride=2, padding=1)
        self._add_block(5, 64)
        self._add_block(6, 64)
        self._add_bn_relu("7", 64)
        self.conv7 = nn.Conv3d(64, 128, 3, stride=2, padding=1)
        self._add_block(8, 128)
        self._add_block(9, 128)
        self.pool10 = nn.MaxPool3d(7)
        self.flatten = nn.Flatten()
        self.fc11 = nn.Linear(1024, 128)
        self.fc11_relu = nn.ReLU()
        self.prob = nn.Linear(128, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self._block(6, self._block(5, self.conv4(self._stem(x))))
        x = self._block(9, self._block(8, self.conv7(self._bn_relu("7", x))))
        x = self.flatten(self.pool10(x))
        return self.prob(self.fc11_relu(self.fc11(x)))


class VoxResNetGAP(_VoxResNetBase):
    """The CAM network: VoxResNet up to ``relu4``, global average pooling, one linear layer.

    Maps (n, in_channels, i, j, k), any size, to logits (n, n_classes).

    Parameters
    ----------
    in_channels, n_classes : int
        Number of input channels and of classes.
    """

    #: the only input shape that fits, or None
    required_shape = None

    def __init__(self, in_channels: int = 1, n_classes: int = 2) -> None:
        super().__init__()
        self._add_stem(in_channels)
        self.gap = nn.AdaptiveAvgPool3d(1)
        self.flatten = nn.Flatten()
        self.prob = nn.Linear(64, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.prob(self.flatten(self.gap(self._stem(x))))
