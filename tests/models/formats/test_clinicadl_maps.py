"""ClinicaDL's MAPS folders: which weights are taken, and what maps.json says of them."""

import json

import pytest
import torch
from torch.nn import functional

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.formats.clinicadl_maps import is_maps, read_maps
from napari_cnnvis.models.networks.clinicadl import Conv4_FC3, Conv5_FC3, PadMaxPool3d
from napari_cnnvis.scan.conform import InputSpec

SHAPE = (20, 33, 18)  # 1 x 2 x 1 cells after five poolings

TRAINING = {
    "network_task": "classification",
    "architecture": "Conv5_FC3",
    "mode": "image",
    "input_size": [1, *SHAPE],
    "output_size": 2,
    "dropout": 0.0,
    "label": "diagnosis",
    "label_code": {"CN": 1, "AD": 0},
    "normalize": True,
    "preprocessing_dict": {"preprocessing": "t1-linear", "mode": "image"},
    "size_reduction": False,
    "size_reduction_factor": 2,
    "selection_metrics": ["loss"],
}
PREPROCESSED = (
    "trained on scans preprocessed by 't1-linear' of Clinica and ClinicaDL; open such a scan"
)


def clinicadl_state(dense, shape=SHAPE, channels=1):
    """Random weights under ClinicaDL's names: convolutions 4 apart, dense layers at 2, 4, 6."""
    generator = torch.Generator().manual_seed(0)

    def random(*size):
        return torch.randn(size, generator=generator) / max(1, torch.tensor(size[1:]).prod()) ** 0.5

    state, cells = {}, list(shape)
    for number, width in enumerate((8, 16, 32, 64, 128)):
        conv, norm = f"convolutions.{4 * number}", f"convolutions.{4 * number + 1}"
        state[f"{conv}.weight"] = random(width, channels, 3, 3, 3)
        state[f"{conv}.bias"] = random(width, 100)[:, 0]
        state[f"{norm}.weight"] = 1 + random(width, 100)[:, 0]
        state[f"{norm}.bias"] = random(width, 100)[:, 0]
        state[f"{norm}.running_mean"] = random(width, 100)[:, 0]
        state[f"{norm}.running_var"] = 1 + random(width, 100)[:, 0].abs()
        state[f"{norm}.num_batches_tracked"] = torch.tensor(7)
        channels, cells = width, [-(-n // 2) for n in cells]
    inputs = channels * cells[0] * cells[1] * cells[2]
    for number, outputs in zip((2, 4, 6), dense, strict=True):
        state[f"fc.{number}.weight"] = random(outputs, inputs)
        state[f"fc.{number}.bias"] = random(outputs, 1)[:, 0]
        inputs = outputs
    return state


def published_forward(state, x):
    """Convolution, batch norm, ReLU, zeros in front of odd axes, maximum of 2 x 2 x 2; dense."""
    for number in range(5):
        conv, norm = f"convolutions.{4 * number}", f"convolutions.{4 * number + 1}"
        x = functional.conv3d(x, state[f"{conv}.weight"], state[f"{conv}.bias"], padding=1)
        x = functional.batch_norm(
            x,
            state[f"{norm}.running_mean"],
            state[f"{norm}.running_var"],
            state[f"{norm}.weight"],
            state[f"{norm}.bias"],
        )
        x = functional.relu(x)
        for axis in (2, 3, 4):
            if x.shape[axis] % 2:
                front = torch.zeros_like(x.narrow(axis, 0, 1))
                x = torch.cat([front, x], axis)
        for axis in (2, 3, 4):
            x = x.unflatten(axis, (-1, 2)).amax(axis + 1)
    x = x.flatten(1)
    for number in (2, 4, 6):
        x = functional.linear(x, state[f"fc.{number}.weight"], state[f"fc.{number}.bias"])
        x = functional.relu(x) if number < 6 else x
    return x


def small_state(n=2):
    """Enough of a state dict for what is read of it."""
    return {"convolutions.0.bias": torch.zeros(8), "fc.6.weight": torch.zeros(n, 50)}


def maps(tmp_path, splits=("split-0/best-loss",), state=None, **changes):
    """A MAPS folder; each set of weights has a different epoch and bias."""
    root = tmp_path / "my_maps"
    for place in splits:
        (root / place).mkdir(parents=True)
        weights = state or {**small_state(), "place": torch.tensor(list(place.encode()))}
        torch.save(
            {"model": weights, "epoch": 3, "name": "Conv5_FC3"}, root / place / "model.pth.tar"
        )
    root.mkdir(exist_ok=True)
    (root / "groups" / "train" / "split-0").mkdir(parents=True)
    (root / "groups" / "train" / "split-0" / "maps.json").write_text('{"multi_cohort": false}')
    content = {k: v for k, v in {**TRAINING, **changes}.items() if v is not ...}
    (root / "maps.json").write_text(json.dumps(content))
    return root


def place_of(file):
    return bytes(file.state["place"].tolist()).decode()


def header_of(tmp_path, n=2, **changes):
    header = read_maps(maps(tmp_path, state=small_state(n), **changes)).header
    InputSpec(**header["input"])
    return header


@pytest.mark.parametrize(("net", "dense"), [(Conv5_FC3, (1300, 50, 2)), (Conv4_FC3, (50, 40, 2))])
@pytest.mark.parametrize("shape", [SHAPE, (32, 32, 32)])
def test_networks_give_what_clinicadls_give(net, dense, shape):
    state = clinicadl_state(dense, shape)
    module = net(shape=shape).eval()
    assert module.load_state_dict(state, strict=True).missing_keys == []
    x = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(1))
    expected = published_forward(state, x)
    assert expected.std() > 1e-3
    assert torch.allclose(module(x), expected, atol=1e-5)
    assert module.required_shape == shape


def test_networks_of_several_channels_and_outputs():
    module = Conv5_FC3(in_channels=2, n_classes=3, shape=SHAPE).eval()
    module.load_state_dict(clinicadl_state((1300, 50, 3), channels=2))
    assert module(torch.zeros(1, 2, *SHAPE)).shape == (1, 3)


def test_default_shape_is_that_of_clinicadl():
    with torch.device("meta"):
        module = Conv5_FC3()
    assert module.required_shape == (169, 208, 179)
    assert module.fc[2].in_features == 128 * 6 * 7 * 6


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 0)])
def test_wrong_shapes(shape):
    with pytest.raises(ValueError, match="not three positive numbers"):
        Conv5_FC3(shape=shape)


def test_pooling_pads_in_front():
    x = torch.arange(1.0, 6).expand(1, 1, 1, 2, 5)
    assert PadMaxPool3d()(x).tolist() == [[[[[1, 3, 5]]]]]


def test_header(tmp_path):
    root = maps(tmp_path)
    file = read_maps(root)
    assert file.header == {
        "output": "softmax",
        "architecture": {
            "name": "Conv5_FC3",
            "arguments": {"in_channels": 1, "n_classes": 2, "shape": list(SHAPE), "dropout": 0.0},
        },
        "class_names": ["AD", "CN"],
        "input": {"intensity": "range", "shape": list(SHAPE)},
    }
    assert file.path == root
    assert file.kind == "ClinicaDL MAPS"
    assert file.notes[-2:] == ("weights of split-0, best-loss are used", PREPROCESSED)


def test_read_weights_fit_the_network_of_the_header(tmp_path):
    state = clinicadl_state((1300, 50, 2))
    file = read_maps(maps(tmp_path, state={f"module.{k}": v for k, v in state.items()}))
    net = Conv5_FC3(**file.header["architecture"]["arguments"]).eval()
    net.load_state_dict(file.state, strict=True)
    x = torch.rand(1, 1, *SHAPE)
    assert torch.allclose(net(x), published_forward(state, x), atol=1e-5)


SPLITS = ("split-10/best-loss", "split-2/best-BA", "split-2/best-loss", "split-2/best-accuracy")


@pytest.mark.parametrize(
    ("inside", "split", "expected", "others"),
    [
        ("", None, "split-2/best-loss", "split-10, best-BA, best-accuracy"),
        ("", 2, "split-2/best-loss", "split-10, best-BA, best-accuracy"),
        ("", 10, "split-10/best-loss", "split-2"),
        ("split-10", None, "split-10/best-loss", None),
        ("split-2", None, "split-2/best-loss", "best-BA, best-accuracy"),
        ("split-2/best-BA", None, "split-2/best-BA", None),
    ],
)
def test_choice_of_weights(tmp_path, inside, split, expected, others):
    root = maps(tmp_path, SPLITS)
    assert is_maps(root / inside)
    file = read_maps(root / inside, split)
    assert place_of(file) == expected
    note = f"weights of {expected.replace('/', ', ')} are used"
    assert note + (f"; there are also {others}" if others else "") in file.notes
    assert file.path == root / inside


def test_weights_file_in_a_maps_folder(tmp_path, monkeypatch):
    root = maps(tmp_path, SPLITS)
    path = root / "split-2" / "best-accuracy" / "model.pth.tar"
    assert is_maps(path)
    file = read_maps(path)
    assert place_of(file) == "split-2/best-accuracy"
    assert file.header["class_names"] == ["AD", "CN"]
    monkeypatch.chdir(path.parent)
    assert place_of(read_maps(type(path)("model.pth.tar"))) == "split-2/best-accuracy"


def test_folders_of_older_versions_and_other_metrics(tmp_path):
    root = maps(tmp_path, ("fold-1/best-BA",), architecture=..., model="Conv4_FC3", normalize=...,
                minmaxnormalization=False)  # fmt: skip
    file = read_maps(root)
    assert place_of(file) == "fold-1/best-BA"
    assert file.header["architecture"]["name"] == "Conv4_FC3"
    assert file.header["input"]["intensity"] == "none"


def test_one_network_for_each_part(tmp_path):
    root = maps(tmp_path, ())
    folder = root / "split-0" / "best-loss"
    folder.mkdir(parents=True)
    for n in (0, 1, 10):
        state = {**small_state(), "n": torch.tensor(n)}
        torch.save({"model": state}, folder / f"network-{n}_model.pth.tar")
    file = read_maps(root)
    assert file.state["n"] == 0
    assert any("network-0_model.pth.tar is used, there are 2 more" in note for note in file.notes)


def test_splits_without_weights_are_passed_over(tmp_path):
    root = maps(tmp_path, ("split-1/best-loss",))
    (root / "split-0" / "training_logs").mkdir(parents=True)
    (root / "split-0" / "best-loss").mkdir()
    assert place_of(read_maps(root)) == "split-1/best-loss"
    with pytest.raises(CheckpointError, match="no weights of split 0; there are splits 1"):
        read_maps(root, 0)
    with pytest.raises(CheckpointError, match="split-0 has no weights"):
        read_maps(root / "split-0")


@pytest.mark.parametrize(
    ("codes", "n", "names"),
    [
        ({"AD": 0, "CN": 1}, 2, ["AD", "CN"]),
        ({"AD": 1, "sMCI": 0, "CN": 0}, 2, ["sMCI/CN", "AD"]),
        ({"AD": 0, "CN": 2}, 2, None),
        ({"AD": 0, "CN": 1}, 3, None),
        ({}, 2, None),
        (None, 2, None),
        (["AD", "CN"], 2, None),
    ],
)
def test_class_names(tmp_path, codes, n, names):
    assert header_of(tmp_path, n, label_code=codes).get("class_names") == names


def test_regression(tmp_path):
    header = header_of(tmp_path, 1, network_task="regression", label="age", label_code=None)
    assert header["output"] == "regression"
    assert header["class_names"] == ["age"]
    assert header["architecture"]["arguments"]["n_classes"] == 1


@pytest.mark.parametrize(
    ("changes", "fields", "words"),
    [
        ({"normalize": False}, {"intensity": "none", "shape": list(SHAPE)}, PREPROCESSED),
        ({"input_size": [2, 8, 8, 8]}, {"intensity": "range", "channels": 2, "shape": [8, 8, 8]}, ""),
        (
            {"mode": "patch", "input_size": [1, 50, 50, 50],
             "preprocessing_dict": {"patch_size": 50, "stride_size": 25}},
            {"intensity": "range", "window": [50, 50, 50], "overlap": 0.5},
            "trained on patches",
        ),
        (
            {"mode": "patch", "stride_size": 50, "preprocessing_dict": ...,
             "preprocessing": "t1-extensive", "input_size": [1, 50, 50, 50]},
            {"intensity": "range", "window": [50, 50, 50], "overlap": 0.0},
            "preprocessed by 't1-extensive'",
        ),
        ({"mode": "roi"}, {"intensity": "range", "shape": list(SHAPE)}, "(mode 'roi')"),
        (
            {"size_reduction": True, "size_reduction_factor": 3},
            {"intensity": "range", "shape": list(SHAPE), "spacing": [3.0, 3.0, 3.0]},
            "took one voxel in 3",
        ),
    ],
)  # fmt: skip
def test_input(tmp_path, changes, fields, words):
    root = maps(tmp_path, **changes)
    file = read_maps(root)
    assert file.header["input"] == fields
    assert InputSpec(**fields)
    assert any(words in note for note in file.notes)


@pytest.mark.parametrize(
    "name", ["ResNet3D", "SqueezeExcitationCNN", "Conv5_FC3_SSDA", "my_net", 3]
)
def test_other_networks(tmp_path, name):
    file = read_maps(maps(tmp_path, architecture=name))
    assert "architecture" not in file.header
    assert file.header["class_names"] == ["AD", "CN"]
    assert (
        f"its network is ClinicaDL's {name}, which is not built in; give the network: "
        "load_model(path, arch=...)"
    ) in file.notes


@pytest.mark.parametrize("size", [..., None, "169x208x179", [1, 8.5, 8, 8], [0, 8, 8, 8]])
def test_unknown_input_size(tmp_path, size):
    file = read_maps(maps(tmp_path, input_size=size))
    assert "architecture" not in file.header
    assert file.header["input"] == {"intensity": "range"}
    assert any("does not say what input or output Conv5_FC3 has" in note for note in file.notes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "slice", "input_size": [3, 169, 208]}, "for 2D slices, and only 3D networks"),
        ({"input_size": [3, 169, 208]}, "for 2D slices"),
        ({"network_task": "reconstruction"}, "reconstructs images; it gives no class or value"),
        ({"network_task": ...}, "names no network_task"),
    ],
)
def test_what_cannot_be_explained(tmp_path, changes, words):
    with pytest.raises(CheckpointError, match=words):
        read_maps(maps(tmp_path, **changes))


@pytest.mark.parametrize("content", ["{", "", "[" * 100_000, "\xff"])
def test_damaged_description(tmp_path, content):
    root = maps(tmp_path)
    (root / "maps.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"maps\.json is not JSON that can be read; copy"):
        read_maps(root)
    (root / "maps.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="does not describe a training"):
        read_maps(root)


def test_no_weights(tmp_path):
    root = maps(tmp_path, ())
    assert is_maps(root)
    with pytest.raises(CheckpointError, match=r"has no weights \(split-0/best-loss/model"):
        read_maps(root)


@pytest.mark.parametrize(("content", "words"), [(b"", r"is empty \(0 bytes\)"), (b"no", "model")])
def test_damaged_weights(tmp_path, content, words):
    root = maps(tmp_path)
    path = root / "split-0" / "best-loss" / "model.pth.tar"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read_maps(root)


def test_what_is_no_maps_folder(tmp_path):
    root = maps(tmp_path)
    (tmp_path / "net.pth.tar").write_bytes(b"")
    (root / "notes.txt").write_text("")
    for path in (tmp_path, tmp_path / "net.pth.tar", tmp_path / "missing", root / "notes.txt",
                 root / "groups" / "train", root / "maps.json"):  # fmt: skip
        assert not is_maps(path)
    with pytest.raises(CheckpointError, match=r"it has no maps\.json; choose the folder"):
        read_maps(tmp_path)
    with pytest.raises(CheckpointError, match="names no network_task"):
        read_maps(root / "groups" / "train" / "split-0")
