"""Published networks, written from their papers, for weights that lie beside the repository."""

from torch import Tensor, nn

__all__ = ["AlzheimerNet"]


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, pool: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.pool = nn.MaxPool3d(pool, 2)
        self.BN = nn.BatchNorm3d(outputs)
        self.act = nn.LeakyReLU(0.01)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.BN(self.pool(self.conv(x))))


class _Backbone(nn.Sequential):
    def __init__(self) -> None:
        super().__init__()
        self.block1 = _Block(1, 20, 7, 2, 3)
        self.block2 = _Block(20, 40, 4, 1, 2)
        self.block3 = _Block(40, 80, 3, 1, 2)
        self.block4 = _Block(80, 160, 3, 1, 2)


class _Head(nn.Module):
    def __init__(self, hidden: int, outputs: int) -> None:
        super().__init__()
        self.dense1 = nn.Sequential(nn.Dropout(0.5), nn.Linear(5760, hidden))
        self.dense2 = nn.Sequential(nn.LeakyReLU(0.01), nn.Dropout(0.5), nn.Linear(hidden, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.dense2(self.dense1(x.flatten(1)))


class AlzheimerNet(nn.Module):
    """The imaging model of Qiu et al. 2022 (Nature Communications 13, 3404).

    Its input is a T1 scan of 182 x 218 x 182 voxels in MNI space at 1 mm, divided by its
    mean and clipped to 0 to 8. `hidden` and `outputs` are 30 and 2 for Alzheimer's disease
    or not, 100 and 1 for cognition.
    """

    def __init__(self, hidden: int = 30, outputs: int = 2) -> None:
        super().__init__()
        self.backbone = _Backbone()
        self.head = _Head(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))
