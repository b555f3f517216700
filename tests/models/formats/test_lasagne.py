"""Arrays of weights as Lasagne saved them."""

import numpy as np
import pytest
import torch
from torch import nn

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.checkpoint import load_model
from napari_cnnvis.models.networks.vox import VoxResNet, VoxResNetGAP, VoxVGG

from ..trained_nets import BATCH_NORMS, EARLIER, assert_same_weights, trained


def logits(module, size):
    """Logits of a random volume; VoxResNet's last pooling is fitted to the smaller volume."""
    if isinstance(module, VoxResNet):
        module.pool10 = nn.AdaptiveMaxPool3d(2)
    x = torch.rand(1, 1, size, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return module.eval()(x)


def write_lasagne(module, path):
    """As Lasagne's get_all_param_values gives them: layer by layer, dense transposed."""
    arrays = []
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d):
            arrays += [layer.weight, layer.bias]
        elif isinstance(layer, nn.Linear):
            arrays += [layer.weight.T, layer.bias]
        elif isinstance(layer, BATCH_NORMS):
            inv_std = 1 / torch.sqrt(layer.running_var + 1e-4)
            arrays += [layer.bias, layer.weight, layer.running_mean, inv_std]
    np.savez(path, *[a.detach().numpy() for a in arrays])
    return path


@pytest.mark.parametrize(("net", "size"), [(VoxVGG, 110), (VoxResNet, 28), (VoxResNetGAP, 12)])
def test_lasagne_weights_give_the_same_logits(tmp_path, net, size):
    module = trained(net)
    model = load_model(write_lasagne(module, tmp_path / "net.npz"), device="cpu")
    assert model.architecture == net.__name__
    assert model.input_shape == net.required_shape
    assert_same_weights(model.module, module, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        logits(model.module, size), logits(module, size), rtol=1e-4, atol=1e-4
    )


def test_lasagne_weights_of_other_class_numbers(tmp_path):
    path = write_lasagne(trained(VoxResNetGAP, n_classes=4), tmp_path / "net.npz")
    assert len(load_model(path, device="cpu").class_names) == 4


LASAGNE_MISFITS = {
    "too few arrays": lambda arrays: arrays[:-2],
    "wrong order": lambda arrays: arrays[::-1],
    "wrong shape": lambda arrays: [*arrays[:2], arrays[2][:4], *arrays[3:]],
    "a number": lambda arrays: [np.float32(3), *arrays],
}


@pytest.mark.parametrize("case", LASAGNE_MISFITS)
def test_lasagne_arrays_of_another_network_are_refused(tmp_path, plain, case):
    path = write_lasagne(trained(VoxVGG), tmp_path / "net.npz")
    with np.load(path) as file:
        arrays = [file[f"arr_{n}"] for n in range(len(file.files))]
    np.savez(path, *LASAGNE_MISFITS[case](arrays))
    with pytest.raises(CheckpointError) as caught:
        load_model(path, device="cpu")
    assert "Choose a checkpoint of" in plain(caught.value, path)


def test_lasagne_arrays_with_nan_are_refused(tmp_path, plain):
    module = trained(VoxVGG)
    with torch.no_grad():
        module.prob.bias[0] = torch.nan
    path = write_lasagne(module, tmp_path / "net.npz")
    with pytest.raises(CheckpointError) as caught:
        load_model(path, device="cpu")
    assert EARLIER in plain(caught.value, path)
