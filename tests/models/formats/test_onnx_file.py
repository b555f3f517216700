"""ONNX files; most tests need the extra `onnx`."""

import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.errors import CheckpointError


@pytest.fixture
def converter():
    """Skips where the extra is not installed, or its torchvision belongs to another torch."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import onnx2torch  # noqa: F401
    except (ImportError, RuntimeError) as exc:
        pytest.skip(f"the extra onnx is not usable here: {exc}")


def small():
    return nn.Sequential(
        *(nn.Conv3d(1, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.MaxPool3d(2)),
        *(nn.Conv3d(6, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()),
        nn.Linear(6, 2),
    )


class Flattening(nn.Module):
    """Fixed to one size by its linear layer, and ends in a softmax."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv3d(1, 4, 3, stride=2), nn.Linear(4 * 7**3, 3)

    def forward(self, x):
        return self.head(torch.relu(self.body(x)).flatten(1)).softmax(1)


def resnet():
    nets = pytest.importorskip("monai.networks.nets")
    return nets.resnet10(spatial_dims=3, n_input_channels=1, num_classes=2)


NETS = {"small": (small, 16), "flattening": (Flattening, 16), "resnet": (resnet, 32)}


def exported(net, size, path, version, dynamic=True):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"scan": {0: "n", 2: "i", 3: "j", 4: "k"}} if dynamic else None
        given = torch.zeros(1, 1, size, size, size)
        names = {"input_names": ["scan"], "output_names": ["scores"]}
        torch.onnx.export(
            net, (given,), path, dynamo=False, opset_version=version, dynamic_axes=axes, **names
        )
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("version", [11, 17, 20])
@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_an_onnx_file_explains_as_its_network(tmp_path, converter, name, dynamic, version):
    make, size = NETS[name]
    torch.manual_seed(0)
    net = make().eval()
    path = exported(net, size, tmp_path / "net.onnx", version, dynamic and name != "flattening")
    data = np.random.default_rng(0).random((size,) * 3).astype(np.float32)
    scan = cv.Volume(data, np.eye(4), "s")
    own = cv.Model(net, input_spec=cv.InputSpec(shape=(size,) * 3), device="cpu")
    ours = cv.load_model(path, device="cpu")
    np.testing.assert_allclose(ours.predict(scan), own.predict(scan), atol=1e-6)
    halves = np.indices(data.shape) * 2 // size
    hierarchy = cv.Hierarchy.from_levels([halves[0] * 4 + halves[1] * 2 + halves[2]])
    one, two = (cv.sensitivity(m, scan, target=0, hierarchy=hierarchy).data for m in (own, ours))
    np.testing.assert_allclose(two, one, atol=2e-4 * np.abs(one).max())
    assert ours.target_layers
    assert "converted from ONNX" in ours.notes
    if not dynamic or name == "flattening":
        assert ours.input_spec.shape == (size,) * 3


def test_without_a_converter_the_remedy_is_named(tmp_path, plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x08\x07" * 50)
    with pytest.raises(CheckpointError) as caught:
        cv.load_model(path, device="cpu")
    text = plain(caught.value, path)
    assert "pip install 'napari-cnnvis[onnx]'" in text
    assert "torch.export" in text


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_is_a_plain_sentence(tmp_path, plain, converter):
    path = exported(small().eval(), 16, tmp_path / "net.onnx", 17)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(CheckpointError) as caught:
        cv.load_model(path, device="cpu")
    plain(caught.value, path)


@pytest.mark.filterwarnings("ignore")
def test_operations_that_the_converter_does_not_know_are_said(tmp_path, plain, converter):
    import onnx
    from onnx import TensorProto, helper

    window = helper.make_node("BlackmanWindow", ["n"], ["scores"])
    graph = helper.make_graph(
        [window],
        "odd",
        [helper.make_tensor_value_info("scan", TensorProto.FLOAT, [1, 1, 8, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None])],
        [helper.make_tensor("n", TensorProto.INT64, [], [4])],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    with pytest.raises(CheckpointError) as caught:
        cv.load_model(path, device="cpu")
    assert "operations that cannot be converted" in plain(caught.value, path)
