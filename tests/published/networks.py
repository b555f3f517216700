"""Published networks, written from their papers."""

import itertools

import torch
from torch import Tensor, nn

__all__ = [
    "C3D",
    "I3D",
    "SFCN",
    "AlzheimerNet",
    "AttentionMIL",
    "BrainAgeNet",
    "InstanceNormNet",
    "LRPNet",
    "MobileNet3D",
    "ShuffleNet3D",
    "VoxNet",
]


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


class C3D(nn.Sequential):
    """Tran et al. 2015 (arXiv:1412.0767), for one channel and any size: pooled before the layers fc."""

    def __init__(self, outputs: int = 2) -> None:
        layers: list[nn.Module] = []
        inputs = 1
        for stage, widths in enumerate([[64], [128], [256, 256], [512, 512], [512, 512]]):
            for width in widths:
                layers += [nn.Conv3d(inputs, width, 3, padding=1), nn.ReLU()]
                inputs = width
            layers.append(nn.MaxPool3d((1, 2, 2) if stage == 0 else 2))
        layers += [nn.AdaptiveAvgPool3d((1, 2, 2)), nn.Flatten(), nn.Linear(2048, 512), nn.ReLU()]
        super().__init__(*layers, nn.Dropout(0.5), nn.Linear(512, outputs))


class VoxNet(nn.Sequential):
    """Maturana and Scherer 2015 (IROS, doi:10.1109/IROS.2015.7353481), for 32 x 32 x 32 voxels."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__(
            *(nn.Conv3d(1, 32, 5, stride=2), nn.LeakyReLU(0.1), nn.Dropout(0.2)),
            *(nn.Conv3d(32, 32, 3), nn.LeakyReLU(0.1), nn.MaxPool3d(2), nn.Dropout(0.3)),
            *(nn.Flatten(), nn.Linear(32 * 6**3, 128), nn.ReLU(), nn.Dropout(0.4)),
            nn.Linear(128, outputs),
        )


class SFCN(nn.Module):
    """Peng et al. 2021 (doi:10.1016/j.media.2020.101871): age in bins, log probabilities."""

    def __init__(self, bins: int = 40) -> None:
        super().__init__()
        widths = [1, 32, 64, 128, 256, 256, 64]
        self.feature_extractor = nn.Sequential()
        for n, (before, after) in enumerate(itertools.pairwise(widths)):
            last = n == 5
            kernel = 1 if last else 3
            layers: list[nn.Module] = [
                nn.Conv3d(before, after, kernel, padding=kernel // 2),
                nn.BatchNorm3d(after),
            ]
            layers += [] if last else [nn.MaxPool3d(2)]
            self.feature_extractor.add_module(f"conv_{n}", nn.Sequential(*layers, nn.ReLU()))
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool3d(1), nn.Dropout(0.5), nn.Conv3d(64, bins, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        scores = self.classifier(self.feature_extractor(x))
        return nn.functional.log_softmax(scores.flatten(1), dim=1)


class BrainAgeNet(nn.Sequential):
    """Cole et al. 2017 (doi:10.1016/j.neuroimage.2017.07.059): five blocks, then a line."""

    def __init__(self, size: int = 64) -> None:
        layers: list[nn.Module] = []
        inputs, width = 1, 8
        for _ in range(5):
            layers += [nn.Conv3d(inputs, width, 3, padding=1), nn.ReLU()]
            layers += [nn.Conv3d(width, width, 3, padding=1), nn.BatchNorm3d(width), nn.ReLU()]
            layers.append(nn.MaxPool3d(2))
            inputs, width = width, 2 * width
        super().__init__(*layers, nn.Flatten(), nn.Linear(inputs * (size // 32) ** 3, 1))


class LRPNet(nn.Module):
    """Boehle et al. 2019 (doi:10.3389/fnagi.2019.00194): the network that LRP was tried on."""

    def __init__(self, size: int = 96) -> None:
        super().__init__()
        widths = [1, 8, 16, 32, 64]
        self.features = nn.Sequential()
        for n, (before, after) in enumerate(itertools.pairwise(widths), 1):
            self.features.add_module(f"Conv_{n}", nn.Conv3d(before, after, 3))
            self.features.add_module(f"BN_{n}", nn.BatchNorm3d(after))
            self.features.add_module(f"ReLU_{n}", nn.ReLU())
            self.features.add_module(f"MP_{n}", nn.MaxPool3d(2 if n != 2 else 3))
            size = (size - 2) // (2 if n != 2 else 3)
        self.dense_1 = nn.Linear(64 * size**3, 128)
        self.dense_2 = nn.Linear(128, 2)
        self.dropout = nn.Dropout(0.4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x)
        y = self.dropout(y).view(len(y), -1)
        return self.dense_2(torch.relu(self.dense_1(y)))


class InstanceNormNet(nn.Module):
    """Liu et al. 2020 (arXiv:1911.03740): small first kernels and InstanceNorm."""

    def __init__(self, widening: int = 4, outputs: int = 3) -> None:
        super().__init__()
        w = widening
        plan = [(4 * w, 1, 0, 1), (32 * w, 3, 0, 2), (64 * w, 5, 2, 2), (64 * w, 3, 1, 2)]
        layers: list[nn.Module] = []
        inputs = 1
        for width, kernel, padding, dilation in plan:
            layers += [
                nn.Conv3d(inputs, width, kernel, padding=padding, dilation=dilation),
                nn.InstanceNorm3d(width),
                nn.ReLU(inplace=True),
                nn.MaxPool3d(3, 2),
            ]
            inputs = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool3d(2)
        self.fc6 = nn.Sequential(nn.Dropout(), nn.Linear(inputs * 8, 64))
        self.classifier = nn.Linear(64, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.relu(self.fc6(self.pool(self.features(x)).flatten(1))))


class _Unit(nn.Sequential):
    """Convolution, BatchNorm, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(
            nn.Conv3d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm3d(outputs),
            nn.ReLU(inplace=True),
        )


class _Inception(nn.Module):
    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        a, b, c, d, e, f = widths
        self.b0 = _Unit(inputs, a)
        self.b1 = nn.Sequential(_Unit(inputs, b), _Unit(b, c, 3))
        self.b2 = nn.Sequential(_Unit(inputs, d), _Unit(d, e, 3))
        self.b3 = nn.Sequential(nn.MaxPool3d(3, 1, 1), _Unit(inputs, f))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.b0(x), self.b1(x), self.b2(x), self.b3(x)], 1)


class I3D(nn.Sequential):
    """Carreira and Zisserman 2017 (arXiv:1705.07750), with one channel."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__(
            *(_Unit(1, 64, 7, 2), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))),
            *(_Unit(64, 64), _Unit(64, 192, 3), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))),
            *(_Inception(192, (64, 96, 128, 16, 32, 32)),),
            *(_Inception(256, (128, 128, 192, 32, 96, 64)), nn.MaxPool3d(3, 2, 1)),
            *(_Inception(480, (192, 96, 208, 16, 48, 64)),),
            *(_Inception(512, (160, 112, 224, 24, 64, 64)),),
            *(_Inception(512, (128, 128, 256, 24, 64, 64)),),
            *(_Inception(512, (112, 144, 288, 32, 64, 64)),),
            *(_Inception(528, (256, 160, 320, 32, 128, 128)), nn.MaxPool3d(2)),
            *(_Inception(832, (256, 160, 320, 32, 128, 128)),),
            *(_Inception(832, (384, 192, 384, 48, 128, 128)),),
            *(nn.AdaptiveAvgPool3d(1), nn.Dropout(0.5), nn.Conv3d(1024, outputs, 1), nn.Flatten()),
        )


class _Inverted(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.same = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *([] if expand == 1 else [_Unit(inputs, hidden)]),
            _Unit(hidden, hidden, 3, stride, hidden),
            nn.Conv3d(hidden, outputs, 1, bias=False),
            nn.BatchNorm3d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.same else self.conv(x)


class MobileNet3D(nn.Sequential):
    """MobileNetV2 of Koepuelue et al. 2019 (arXiv:1904.02422), with one channel."""

    def __init__(self, outputs: int = 2) -> None:
        layers: list[nn.Module] = [_Unit(1, 32, 3, 2)]
        inputs = 32
        plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1)]
        for expand, width, repeats, stride in [*plan, (6, 160, 3, 2), (6, 320, 1, 1)]:
            for n in range(repeats):
                layers.append(_Inverted(inputs, width, stride if n == 0 else 1, expand))
                inputs = width
        layers += [_Unit(320, 1280), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(0.2)]
        super().__init__(*layers, nn.Linear(1280, outputs))


class _Shuffle(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, groups: int = 3) -> None:
        super().__init__()
        self.groups, self.stride = groups, stride
        width = outputs // 4
        outputs -= inputs if stride == 2 else 0
        first = 1 if inputs == 24 else groups
        self.reduce = _Unit(inputs, width, groups=first)
        self.depthwise = nn.Sequential(
            nn.Conv3d(width, width, 3, stride, 1, groups=width, bias=False), nn.BatchNorm3d(width)
        )
        self.expand = nn.Sequential(
            nn.Conv3d(width, outputs, 1, groups=groups, bias=False), nn.BatchNorm3d(outputs)
        )
        self.shortcut = nn.AvgPool3d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.reduce(x)
        n, c, *space = y.shape
        y = y.view(n, self.groups, c // self.groups, *space).transpose(1, 2).reshape(n, c, *space)
        y = self.expand(self.depthwise(y))
        return torch.relu(torch.cat([self.shortcut(x), y], 1) if self.stride == 2 else x + y)


class ShuffleNet3D(nn.Sequential):
    """ShuffleNet (3 groups) of Koepuelue et al. 2019 (arXiv:1904.02422), with one channel."""

    def __init__(self, outputs: int = 2) -> None:
        layers: list[nn.Module] = [_Unit(1, 24, 3, 2), nn.MaxPool3d(3, 2, 1)]
        inputs = 24
        for width, repeats in ((240, 4), (480, 8), (960, 4)):
            for n in range(repeats):
                layers.append(_Shuffle(inputs, width, 2 if n == 0 else 1))
                inputs = width
        super().__init__(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(inputs, outputs))


class AttentionMIL(nn.Module):
    """Slices as instances (Ilse et al. 2018, arXiv:1802.04712): a 2D network on each, then attention."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for width in (16, 32, 64, 64):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
            inputs = width
        self.slices = nn.Sequential(*layers)
        self.attention = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 1))
        self.head = nn.Linear(64, outputs)

    def forward(self, x: Tensor) -> Tensor:
        n, _, slices, *space = x.shape
        y = self.slices(x.reshape(n * slices, 1, *space)).mean((2, 3)).view(n, slices, -1)
        return self.head((self.attention(y).softmax(1) * y).sum(1))
