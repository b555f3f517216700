"""The networks that are made without trust, and the arguments they take."""

import pytest
from torch import nn

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.networks.allowed import is_allowed
from napari_cnnvis.models.networks.factories import parse_architecture
from napari_cnnvis.models.networks.vox import VoxVGG


def test_only_networks_are_on_the_list():
    nets = pytest.importorskip("monai.networks.nets")
    assert is_allowed(nets.DenseNet121)
    assert is_allowed(nets.resnet18)
    assert is_allowed(VoxVGG)
    assert not is_allowed(nets.HoVerNet)
    assert not is_allowed(nets.TorchVisionFCModel)
    assert not is_allowed(nets.drop_connect)
    assert not is_allowed(nn.Linear)
    assert not is_allowed(VoxVGG.forward)
    assert not is_allowed(VoxVGG())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("spatial_dims=3, in_channels=1, out_channels=2, cache_dir='x'", "'cache_dir'"),
        ("spatial_dims=3, in_channels=1, out_channels=2, norm='a/b'", "no plain word"),
        ("spatial_dims=3, in_channels=1, out_channels=2, norm='http://a'", "no plain word"),
        (
            "spatial_dims=3, in_channels=1, out_channels=2, norm=('batch', {'x': '../a'})",
            "no plain",
        ),
        ("spatial_dims=3, in_channels=1, out_channels=2, norm=('batch', {'a/b': 1})", "no plain"),
        ("spatial_dims=3, in_channels=1, out_channels=2, norm=b'batch'", "no plain word"),
        ("spatial_dims=3, in_channels=10**9, out_channels=2", "plain values"),
        ("spatial_dims=3, in_channels=1000000000, out_channels=2", "larger than any network"),
        ("spatial_dims=3, in_channels=1e999, out_channels=2", "larger than any network"),
        (f"3, 1, 2, block_config={[1] * 1001}", "larger than any network"),
        ("3, 1, 2, 64, 32, (6,), 4, 'a', 'b', 'c', 'd'", "cannot be built"),
    ],
)
def test_arguments_that_a_network_has_no_use_for_are_refused(plain, arguments, words):
    pytest.importorskip("monai.networks.nets")
    for by_user in (True, False):
        with pytest.raises(CheckpointError) as caught:
            text = f"monai.networks.nets:DenseNet121({arguments})"
            parse_architecture(text).build(by_user=by_user)
        assert words in plain(caught.value)
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text",
    [
        "DenseNet121(3, 1, 2, 64, 32, (1, 1, 1, 1), True)",
        "densenet121(spatial_dims=3, in_channels=1, out_channels=2, pretrained=True)",
        "resnet10(True, False, spatial_dims=3, n_input_channels=1, num_classes=2)",
        "EfficientNetBN('efficientnet-b0', spatial_dims=3, in_channels=1, num_classes=2)",
        "EfficientNetBN('efficientnet-b0', in_channels=3, num_classes=2)",
        "SEResNet50(spatial_dims=3, in_channels=1, num_classes=2, pretrained=True)",
    ],
)
def test_weights_are_never_downloaded(monkeypatch, text):
    pytest.importorskip("monai.networks.nets")
    for name in ("download_url_to_file", "load_state_dict_from_url"):
        monkeypatch.setattr(f"torch.hub.{name}", lambda *a, **k: pytest.fail("a download"))
    for by_user in (True, False):
        made = parse_architecture(f"monai.networks.nets:{text}").build(by_user=by_user)
        assert isinstance(made, nn.Module)
