"""A network is refused before memory is taken for it if it is far too large."""

import pytest
import torch
from torch import nn

from napari_cnnvis.errors import CheckpointError, CnnVisError
from napari_cnnvis.models.checkpoint import load_model

from .named_networks import in_header, in_sidecar

GIANTS = [
    "monai.networks.nets:DenseNet121(spatial_dims=3, in_channels=1, out_channels=2, init_features=20000)",
    "monai.networks.nets:DenseNet(3, 1, 2, block_config=(60000, 60000))",
    "monai.networks.nets:ViT(in_channels=1, img_size=96, patch_size=16, num_layers=60000)",
    "monai.networks.nets:UNet(3, 1, 2, (60000, 60000), (2, 2))",
    "VoxVGG(n_classes=60000, in_channels=60000)",
    "VoxVGG(shape=[60000, 60000, 60000])",
]


@pytest.mark.parametrize("text", GIANTS)
@pytest.mark.parametrize("place", [in_header, in_sidecar])
def test_a_network_far_larger_than_its_file_is_not_made(folder, plain, place, text):
    with pytest.raises(CheckpointError) as caught:
        load_model(place(text, folder), "cpu")
    plain(caught.value)


def test_a_network_of_many_layers_ends_at_once():
    """However many layers a file asks for, no more are made than its weights can be for."""
    from napari_cnnvis.models.networks.weight_budget import TooLarge, WeightBudget

    made = []
    with pytest.raises(TooLarge), WeightBudget([torch.zeros(2)]):
        while True:
            made.append(nn.Linear(1, 1))
    assert len(made) < 20_000
    with pytest.raises(TooLarge), WeightBudget([torch.zeros(2)]):
        torch.empty(10**14)


def test_a_text_of_a_million_letters_is_not_repeated(folder, plain):
    text = "monai.networks.nets:DenseNet121(norm='" + "a" * 1_000_000 + "')"
    with pytest.raises(CheckpointError) as caught:
        load_model(in_header(text, folder), "cpu")
    assert len(plain(caught.value)) < 500
    with pytest.raises(CnnVisError) as caught:
        load_model(in_header("a" * 1_000_000 + "(", folder), "cpu")
    assert len(plain(caught.value)) < 500
