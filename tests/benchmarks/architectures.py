"""Networks of other people: are they read, explained and scored right, and how fast?

    python tests/benchmarks/architectures.py                  # a Markdown table
    python tests/benchmarks/architectures.py --only resnet18 SFCN

For each network, with random weights and statistics, a made-up scan and regions that are boxes
of a grid: the prediction against the module's own softmax or sigmoid; Grad-CAM of the
recommended layer against captum's; sensitivity (the drop of the logit, zero as baseline)
against a plain loop over the regions in batches, written here, with the same batch size, and
the time of both in turn, the engine's trace included. Networks whose package is not installed
are left out and named. One thread, so that two processes do not disturb each other.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.explain.scoring.full_passes import FullPassScorer

sys.path.insert(0, str(Path(__file__).parents[1]))
from published import networks as papers

SIZE = 64


@dataclass(frozen=True)
class Entry:
    """A network: its name, where it is from, how it is made, channels and cube of its input."""

    name: str
    source: str
    make: Callable[[], nn.Module]
    channels: int = 1
    size: int = SIZE
    value: bool = False


class Headed(nn.Module):
    """An encoder whose deepest map is pooled into a linear layer."""

    def __init__(self, encoder: nn.Module, width: int, last: Callable[[Any], torch.Tensor]) -> None:
        super().__init__()
        self.encoder, self.last = encoder, last
        self.head = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.last(self.encoder(x)).mean((2, 3, 4)))


def of_monai() -> Iterator[Entry]:
    from monai.networks import nets

    entry = partial(Entry, source="MONAI")
    usual: dict[str, Any] = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2}
    renamed: dict[str, Any] = {"spatial_dims": 3, "in_channels": 1, "num_classes": 2}
    resnet: dict[str, Any] = {"spatial_dims": 3, "n_input_channels": 1, "num_classes": 2}
    for depth in (121, 169, 201):
        yield entry(f"DenseNet{depth}", make=partial(getattr(nets, f"DenseNet{depth}"), **usual))
    for depth in (10, 18, 34, 50, 101):
        yield entry(f"resnet{depth}", make=partial(getattr(nets, f"resnet{depth}"), **resnet))
    shortcut_a = partial(nets.resnet18, shortcut_type="A", bias_downsample=False, **resnet)
    yield entry("resnet18, shortcut A (Med3D)", make=shortcut_a)
    stride = partial(nets.resnet50, conv1_t_stride=2, **resnet)
    yield entry("resnet50, first stride 2", make=stride)
    for name in ("SEResNet50", "SEResNext50", "SENet154"):
        yield entry(name, make=partial(getattr(nets, name), **renamed))
    for size in (0, 1, 3):
        make = partial(nets.EfficientNetBN, f"efficientnet-b{size}", pretrained=False, **renamed)
        yield entry(f"EfficientNet-b{size}", make=make)
    shape = (SIZE, SIZE, SIZE)
    vit = {"in_channels": 1, "img_size": shape, "patch_size": (16, 16, 16), "classification": True}
    yield entry("ViT", make=partial(nets.ViT, num_classes=2, post_activation="none", **vit))
    strides = {"channels": (8, 16, 32, 64), "strides": (2, 2, 2, 2)}
    yield entry("Classifier", make=lambda: nets.Classifier((1, *shape), 2, **strides))
    regressor = partial(nets.Regressor, (1, *shape), (1,), **strides)
    yield entry("Regressor", make=regressor, value=True)
    yield entry("Discriminator", make=lambda: nets.Discriminator((1, *shape), **strides))
    from monai.networks.nets.swin_unetr import SwinTransformer

    swin = SwinTransformer(1, 24, (7, 7, 7), (2, 2, 2), (2, 2, 2, 2), (3, 6, 12, 24))
    yield entry("SwinTransformer and head", make=lambda: Headed(swin, 384, lambda maps: maps[-1]))
    seg = nets.SegResNet(spatial_dims=3, in_channels=1, init_filters=8)
    yield entry("SegResNet's encoder", make=lambda: Headed(_Encoder(seg), 64, lambda maps: maps))
    unet = nets.BasicUNet(spatial_dims=3, in_channels=1)
    body = nn.Sequential(unet.conv_0, unet.down_1, unet.down_2, unet.down_3, unet.down_4)
    yield entry("BasicUNet's encoder", make=lambda: Headed(body, 256, lambda maps: maps))


class _Encoder(nn.Module):
    """The way down of MONAI's SegResNet."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net.encode(x)[0]


def of_torchvision() -> Iterator[Entry]:
    from torchvision.models import video

    entry = partial(Entry, source="torchvision", channels=3)
    for name in ("r3d_18", "mc3_18", "r2plus1d_18", "s3d", "swin3d_t"):
        yield entry(name, make=partial(getattr(video, name), num_classes=2))


def of_timm() -> Iterator[Entry]:
    import timm_3d

    names = ("resnet18", "resnet18d", "densenet121", "efficientnet_b0", "convnext_atto", "vgg11_bn")
    for name in (*names, "seresnet18", "ecaresnext26t_32x4d", "efficientnet_b0_gn"):
        make = partial(timm_3d.create_model, name, in_chans=1, num_classes=2, pretrained=False)
        yield Entry(f"{name} (3D)", "timm-3d", make)


def of_papers() -> Iterator[Entry]:
    entry = partial(Entry, source="its paper")
    yield entry("C3D", make=papers.C3D)
    yield entry("VoxNet", make=papers.VoxNet, size=32)
    yield entry("SFCN", make=papers.SFCN)
    yield entry("BrainAgeNet", make=papers.BrainAgeNet, value=True)
    yield entry("LRPNet", make=papers.LRPNet, size=96)
    yield entry("InstanceNormNet", make=papers.InstanceNormNet, size=96)
    yield entry("I3D", make=papers.I3D)
    yield entry("MobileNetV2 (3D)", make=papers.MobileNet3D)
    yield entry("ShuffleNet (3D)", make=papers.ShuffleNet3D)
    yield entry("AttentionMIL (2D slices)", make=papers.AttentionMIL)
    yield entry("AlzheimerNet (ncomms2022)", make=papers.AlzheimerNet, size=182)
    from napari_cnnvis.models.networks.clinicadl import Conv5_FC3

    yield entry("ClinicaDL Conv5_FC3", make=partial(Conv5_FC3, shape=(96, 96, 96)), size=96)


def entries() -> Iterator[Entry]:
    """All whose package is installed; the others are said on stderr."""
    for source in (of_monai, of_torchvision, of_timm, of_papers):
        try:
            yield from source()
        except (ImportError, RuntimeError) as exc:
            print(f"{source.__name__} left out: {exc}", file=sys.stderr)


def prepared(entry: Entry) -> nn.Module:
    """With weights that let a region be seen at the output, and the statistics of such inputs."""
    torch.manual_seed(0)
    net = entry.make().eval()
    for module in net.modules():
        if isinstance(module, nn.Conv3d | nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        net(torch.rand(2, entry.channels, *shape_of(entry)))
    return net.eval()


def shape_of(entry: Entry) -> tuple[int, int, int]:
    """Voxels of the input."""
    return (182, 218, 182) if entry.size == 182 else (entry.size,) * 3


def labels_of(shape: tuple[int, ...], cells: int) -> np.ndarray:
    """A grid of boxes."""
    edges = [np.arange(n) * cells // n for n in shape]
    grids = np.meshgrid(*edges, indexing="ij")
    return (grids[0] * cells + grids[1]) * cells + grids[2]


def own_scores(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the module gives by itself, without our way of running it."""
    given = net(x)
    while isinstance(given, tuple | list):
        given = given[0]
    return given.reshape(len(x), -1)


def expected_prediction(own: torch.Tensor, ends_in: str) -> np.ndarray:
    """The classes' probabilities from the module's own output."""
    if ends_in in ("softmax", "sigmoid") and own.shape[1] > 1:
        return own[0].numpy()
    if ends_in == "log_softmax":
        return own[0].exp().numpy()
    if own.shape[1] > 1:
        return own[0].softmax(0).numpy()
    p = float(own[0, 0] if ends_in == "sigmoid" else own[0, 0].sigmoid())
    return np.array([1 - p, p])


def plain_loop(net: nn.Module, x: torch.Tensor, labels: np.ndarray, batch: int) -> np.ndarray:
    """The first score with each region put to 0, in plain batches."""
    places = torch.from_numpy(labels)
    regions = range(int(labels.max()) + 1)
    scores = []
    with torch.no_grad():
        for start in range(0, len(regions), batch):
            members = regions[start : start + batch]
            rows = x.repeat(len(members), 1, 1, 1, 1)
            for row, member in zip(rows, members, strict=True):
                row[:, places == member] = 0
            scores.append(own_scores(net, rows)[:, 0])
    return torch.cat(scores).numpy()


def against_captum(net: nn.Module, model: cv.Model, scans: Any, x: torch.Tensor) -> str:
    """How far Grad-CAM of the recommended layer is from captum's, relative to its largest value."""
    from captum.attr import LayerGradCam

    layer = model.recommended_layer
    if layer is None:
        return "no layer"
    ours = cv.grad_cam(model, scans, target=1, layer=layer, relu=False).native

    class Scores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, y: torch.Tensor) -> torch.Tensor:
            return own_scores(self.net, y)

    given = LayerGradCam(Scores(), net.get_submodule(layer)).attribute(x, target=0)
    theirs = given[0, 0].detach().numpy()
    if theirs.shape != ours.shape:
        return "captum takes no such layer"
    return f"{np.abs(ours - theirs).max() / np.abs(theirs).max():.0e}"


def row(entry: Entry, cells: int) -> list[str]:
    """One line of the table."""
    net, shape = prepared(entry), shape_of(entry)
    data = np.random.default_rng(0).random((entry.channels, *shape)).astype(np.float32)
    scans = tuple(cv.Volume(one, np.eye(4), "scan") for one in data)
    x = torch.from_numpy(data)[None]
    spec = cv.InputSpec(shape=shape, intensity="none", channels=entry.channels)
    with torch.no_grad():
        own = own_scores(net, x)
    ours = copy.deepcopy(net)  # whose weights are laid out in memory for us
    as_values = cv.Model(ours, input_spec=spec, output="regression", device="cpu")
    model = as_values if entry.value else cv.Model(ours, input_spec=spec, device="cpu")
    expected = own[0].numpy() if entry.value else expected_prediction(own, model.reading.ends_in)
    prediction = np.abs(model.predict(scans) - expected)
    model = as_values  # from here on the first output itself is the score, whatever it means
    gradcam = against_captum(net, model, scans, x)
    labels = labels_of(shape, cells)
    n_regions = int(labels.max()) + 1
    batch = FullPassScorer(model, model.tensor(data)).batch_size
    hierarchy = cv.Hierarchy.from_levels([labels])
    began = time.perf_counter()
    scores = plain_loop(net, x, labels, batch)
    plain_seconds = time.perf_counter() - began
    began = time.perf_counter()
    result = cv.sensitivity(model, scans, hierarchy, target=1, baseline=0, score="logit", smooth=0)
    seconds = time.perf_counter() - began
    first = np.unique(labels, return_index=True)[1]
    drops = float(own[0, 0]) - scores
    difference = np.abs(result.data.flat[first] - drops).max() / np.abs(drops).max()
    engine = result.record.values["engine"]["engine"]
    times = [f"{plain_seconds:.1f}", f"{seconds:.1f}", f"{plain_seconds / seconds:.2f}"]
    return [
        entry.name,
        entry.source,
        f"{prediction.max():.0e}",
        gradcam,
        f"{difference:.0e}",
        engine,
        str(n_regions),
        *times,
    ]


HEAD = (
    *("network", "from", "prediction", "Grad-CAM", "sensitivity", "engine", "regions"),
    *("plain batches, s", "ours, s", "times faster"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", help="names, or parts of them")
    parser.add_argument("--cells", type=int, default=5, help="of the grid along each axis")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    for entry in entries():
        if options.only and not any(part in entry.name for part in options.only):
            continue
        try:
            cells = row(entry, options.cells)
        except Exception as exc:  # the next one is still measured
            cells = [entry.name, entry.source, f"{type(exc).__name__}: {exc}"[:300]]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
