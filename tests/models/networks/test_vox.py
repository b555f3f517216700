"""The three networks: sizes, and the reference's weights against a plain computation."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from napari_cnnvis.models.checkpoint import load_model
from napari_cnnvis.models.networks.vox import VoxResNet, VoxResNetGAP, VoxVGG
from napari_cnnvis.scan.volume import Volume

NUMBERS = {VoxVGG: 375_466, VoxResNet: 3_207_458, VoxResNetGAP: 528_226}
RESNET_STEM = {
    "conv1a": (32, 110), "conv1b": (32, 110), "conv1c": (64, 55), "voxres2_out": (64, 55),
    "voxres3_conv2": (64, 55), "voxres3_out": (64, 55), "relu4": (64, 55),
}  # fmt: skip
SIZES = {
    VoxVGG: {
        "conv1a": (8, 108), "conv1b": (8, 106), "pool1": (8, 53),
        "conv2a": (16, 51), "conv2b": (16, 49), "pool2": (16, 24),
        "conv3a": (32, 22), "conv3b": (32, 20), "conv3c": (32, 18), "pool3": (32, 9),
        "conv4a": (64, 7), "conv4b": (64, 5), "conv4c": (64, 3), "pool4": (64, 1),
    },
    VoxResNet: RESNET_STEM | {
        "conv4": (64, 28), "voxres5_out": (64, 28), "voxres6_out": (64, 28), "conv7": (128, 14),
        "voxres8_out": (128, 14), "voxres9_out": (128, 14), "pool10": (128, 2),
    },
    VoxResNetGAP: RESNET_STEM | {"gap": (64, 1)},
}  # fmt: skip


@pytest.mark.parametrize("net", NUMBERS)
def test_number_of_weights(net):
    state = net().state_dict()
    numbers = sum(t.numel() for n, t in state.items() if not n.endswith("num_batches_tracked"))
    assert numbers == NUMBERS[net]


@pytest.mark.parametrize("net", SIZES)
def test_spatial_sizes(net):
    found = {}
    with torch.device("meta"):
        module = net().eval()
        for name in SIZES[net]:
            module.get_submodule(name).register_forward_hook(
                lambda _, __, output, name=name: found.update({name: tuple(output.shape)})
            )
        logits = module(torch.empty(1, 1, 110, 110, 110))
    assert logits.shape == (1, 2)
    assert found == {name: (1, c, n, n, n) for name, (c, n) in SIZES[net].items()}


@pytest.mark.parametrize("net", NUMBERS)
def test_channels_and_classes_can_be_chosen(net):
    with torch.device("meta"):
        module = net(in_channels=3, n_classes=4).eval()
        assert module(torch.empty(2, 3, 110, 110, 110)).shape == (2, 4)


def test_vgg_applies_relu_before_its_batch_norm():
    names = list(VoxVGG()._modules)
    assert names[names.index("dense1") :] == [
        "dense1", "dense1_relu", "bn", "dropout", "dense2", "dense2_relu", "prob",
    ]  # fmt: skip


class Arrays:
    """Lasagne's arrays, applied one layer after the other."""

    def __init__(self, path):
        with np.load(path) as file:
            self.left = [file[f"arr_{n}"] for n in range(len(file.files))]

    def take(self, n):
        taken, self.left = self.left[:n], self.left[n:]
        return taken

    def conv(self, x, **options):
        return F.conv3d(x, *map(torch.from_numpy, self.take(2)), **options)

    def batch_norm(self, x):
        beta, gamma, mean, inv_std = self.take(4)
        shape = (-1, *[1] * (x.ndim - 2))
        scale = torch.from_numpy(gamma * inv_std).reshape(shape)
        shift = torch.from_numpy(beta - mean * gamma * inv_std).reshape(shape)
        return x * scale + shift

    def dense(self, x):
        weight, bias = self.take(2)
        return x @ torch.from_numpy(weight) + torch.from_numpy(bias)


def plain_vgg(arrays, x):
    for convolutions in (2, 2, 3, 3):
        for _ in range(convolutions):
            x = F.relu(arrays.conv(x))
        x = F.max_pool3d(x, 2)
    x = arrays.batch_norm(F.relu(arrays.dense(x.reshape(1, 64))))
    return arrays.dense(F.relu(arrays.dense(x)))


def plain_resnet_cam(arrays, x):
    for _ in range(2):
        x = F.relu(arrays.batch_norm(arrays.conv(x, padding=1)))
    x = arrays.conv(x, padding=1, stride=2)
    for _ in range(2):
        y = x
        for _ in range(2):
            y = arrays.conv(F.relu(arrays.batch_norm(y)), padding=1)
        x = x + y
    return arrays.dense(F.relu(arrays.batch_norm(x)).mean((2, 3, 4)))


@pytest.mark.parametrize(
    ("name", "architecture", "plain_net", "size"),
    [
        ("reference_vgg", "VoxVGG", plain_vgg, 110),
        ("reference_resnet_cam", "VoxResNetGAP", plain_resnet_cam, 64),
    ],
)
def test_reference_weights_give_the_probabilities_of_a_plain_computation(
    shared_data, name, architecture, plain_net, size
):
    path = shared_data / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    data = np.random.default_rng(0).gamma(2, 100, (size,) * 3).astype(np.float32)
    model = load_model(path, device="cpu")
    assert model.architecture == architecture

    arrays = Arrays(path)
    with torch.no_grad():
        logits = plain_net(arrays, torch.from_numpy(data / data.max())[None, None])
    assert arrays.left == []
    expected = logits.softmax(1)[0].numpy()
    assert expected.min() > 1e-3
    np.testing.assert_allclose(model.predict(Volume(data)), expected, atol=1e-5)
