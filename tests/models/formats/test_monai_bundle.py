"""MONAI bundles as folders and zips: what is read of them, and what is refused."""

import copy
import json
import shutil
import zipfile

import pytest
import torch
from torch import nn

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.formats import monai_bundle
from napari_cnnvis.models.formats.monai_bundle import is_bundle, read_bundle

from .bundles import DENSENET, INFERENCE, bundle, with_network


def zipped(folder, top="my_bundle/"):
    path = folder.parent / "my_bundle.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member in sorted(folder.rglob("*")):
            if member.is_file():
                file.write(member, top + member.relative_to(folder).as_posix())
    return path


EXPECTED_HEADER = {
    "architecture": DENSENET,
    "class_names": ["AD", "CN"],
    "input": {
        "steps": [
            "Orientation('RAS')",
            "Spacing((1.5, 1.5, 2))",
            "ScaleIntensity()",
            "ResizeWithPadOrCrop((96, 112, 96))",
        ],
        "intensity": "none",
    },
}


def test_folder(tmp_path):
    path = bundle(tmp_path)
    assert is_bundle(path)
    file = read_bundle(path)
    assert file.header == EXPECTED_HEADER
    assert torch.equal(file.state["w"], torch.ones(2, 3))
    assert (file.path, file.kind, file.notes) == (path, "MONAI bundle", ())


@pytest.mark.parametrize("top", ["", "my_bundle/"])
def test_zip(tmp_path, top, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    folder = bundle(tmp_path)
    path = zipped(folder, top)
    shutil.rmtree(folder)
    assert is_bundle(path)
    file = read_bundle(path)
    assert file.header == EXPECTED_HEADER
    assert torch.equal(file.state["w"], torch.ones(2, 3))
    assert file.path == path
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", ["inference.yaml", "inference.yml", "train.json", "evaluate.yaml"])
def test_other_configurations(tmp_path, name):
    assert read_bundle(bundle(tmp_path, name=name)).header == EXPECTED_HEADER


def test_network_of_the_training_where_inference_has_none(tmp_path):
    inference = {k: v for k, v in INFERENCE.items() if not k.startswith("network")}
    folder = bundle(tmp_path, inference)
    (folder / "configs" / "train.json").write_text(
        json.dumps({"network_def": {"_target_": "SEResNet50", "spatial_dims": 3}})
    )
    header = read_bundle(folder).header
    assert header["architecture"] == "monai.networks.nets:SEResNet50(spatial_dims=3)"
    assert header["input"] == EXPECTED_HEADER["input"]


def test_preprocessing_of_the_validation(tmp_path):
    train = {
        "network_def": INFERENCE["network_def"],
        "train": {
            "fixed": INFERENCE["preprocessing"]["transforms"],
            "preprocessing": {
                "_target_": "Compose",
                "transforms": "$@train::fixed + @train::random",
            },
        },
        "validate": {"preprocessing": {"_target_": "Compose", "transforms": "@train#fixed"}},
    }
    assert read_bundle(bundle(tmp_path, train, name="train.json")).header == EXPECTED_HEADER


def test_no_network_in_the_configuration(tmp_path):
    folder = bundle(tmp_path, inference=False)
    file = read_bundle(folder)
    assert file.header == {
        "class_names": ["AD", "CN"],
        "input": {"shape": [96, 112, 96]},
    }
    assert file.notes == (
        "the bundle's configuration does not define its network; give it: "
        "load_model(path, arch=...)",
    )


def test_real_network_loads(tmp_path):
    nets = pytest.importorskip("monai.networks.nets")
    arguments = {
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 2,
        "init_features": 4,
        "growth_rate": 2,
        "block_config": (1, 1),
    }
    net = nets.DenseNet(**arguments)
    folder = bundle(
        tmp_path,
        with_network(_target_="DenseNet", **{**arguments, "block_config": "$(1, 1)"}),
        name="inference.yaml",
    )
    torch.save(net.state_dict(), folder / "models" / "model.pt")
    file = read_bundle(folder)
    assert file.header["architecture"] == (
        "monai.networks.nets:DenseNet(spatial_dims=3, in_channels=1, out_channels=2, "
        "init_features=4, growth_rate=2, block_config=(1, 1))"
    )
    again = nets.DenseNet(**arguments)
    again.load_state_dict(file.state)
    x = torch.rand(1, 1, 16, 16, 16)
    assert torch.equal(net.eval()(x), again.eval()(x))


@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        ({"num_channels": 2, "channel_def": {"0": "AD", "1": "CN"}}, ["AD", "CN"]),
        ({"channel_def": {"0": "AD", "1": "CN"}}, ["AD", "CN"]),
        ({"num_channels": 3, "channel_def": {"0": "AD", "1": "CN"}}, None),
        ({"num_channels": 2, "channel_def": {"0": "AD", "2": "CN"}}, None),
        ({"num_channels": 2, "channel_def": {"0": "AD", "1": 1}}, None),
        ({"num_channels": 2, "channel_def": ["AD", "CN"]}, None),
        ({"num_channels": 2}, None),
        (None, None),
    ],
)
def test_class_names(tmp_path, outputs, names):
    metadata = {"network_data_format": {"outputs": {"pred": outputs}}}
    assert read_bundle(bundle(tmp_path, None, metadata)).header.get("class_names") == names


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_output(tmp_path, kind):
    steps = [{"_target_": "Activationsd", "keys": "pred", kind: True}, {"_target_": "Invertd"}]
    config = {**INFERENCE, "postprocessing": {"_target_": "Compose", "transforms": steps}}
    assert read_bundle(bundle(tmp_path, config)).header["output"] == kind


def test_other_weights(tmp_path):
    folder = bundle(tmp_path, weights=False)
    torch.save({"b": torch.ones(1)}, folder / "models" / "b.pt")
    assert list(read_bundle(folder).state) == ["b"]
    torch.save({"a": torch.ones(1)}, folder / "models" / "a.pt")
    file = read_bundle(folder)
    assert list(file.state) == ["a"]
    assert file.notes == ("weights of models/a.pt are used; there are also b.pt",)
    torch.save({"model": {"c": torch.ones(1)}}, folder / "models" / "model.pt")
    assert list(read_bundle(folder).state) == ["c"]


def test_torchscript_only_where_there_are_no_weights(tmp_path, monkeypatch):
    folder = bundle(tmp_path, weights=False)
    (folder / "models" / "model.ts").write_bytes(b"program")
    (folder / "models" / "model.onnx").write_bytes(b"program")
    given = []

    def read_one_file(path, trust):
        from napari_cnnvis.models.formats.checkpoint_file import CheckpointFile

        given.append((path.name, trust))
        return CheckpointFile(path, module=nn.Flatten())

    monkeypatch.setattr(monai_bundle, "read_one_file", read_one_file)
    config = copy.deepcopy(INFERENCE) | {"network_def": "$code()"}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    file = read_bundle(folder, trust=True)
    assert given == [("model.ts", True)]
    assert file.notes == ()  # a whole network needs no definition
    assert "architecture" not in file.header


def test_what_is_no_bundle(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "scan.zip").write_bytes(b"PK no zip")
    (tmp_path / "metadata.json").write_text("{}")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("../configs/metadata.json", "{}")
        file.writestr("a/b/configs/metadata.json", "{}")
    torch.save({"w": torch.ones(1)}, tmp_path / "net.pt")
    for name in ("folder", "scan.zip", "other.zip", "net.pt", "metadata.json", "missing"):
        assert not is_bundle(tmp_path / name)
    for name in ("folder", "other.zip"):
        with pytest.raises(CheckpointError, match="is not a MONAI bundle: it has no configs/"):
            read_bundle(tmp_path / name)
    for name in ("scan.zip", "missing"):
        with pytest.raises(CheckpointError, match="cannot be read completely"):
            read_bundle(tmp_path / name)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("inference.json", '{"network_def": ', "'configs/inference.json' of .* is not JSON"),
        ("inference.json", "[1, 2]", "is not a table of names and values"),
        ("inference.json", "[" * 100_000, "is not JSON"),
        ("inference.yaml", "a: [1, 2", "'configs/inference.yaml' of .* is not YAML"),
        ("inference.yaml", "a: !!python/object/apply:os.mkdir [was_run]", "is not YAML"),
        ("inference.yaml", "", "is not a table of names and values"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("as_zip", [False, True])
def test_damaged_configurations(tmp_path, file, content, words, as_zip, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = bundle(tmp_path, content or "", name=file)
    path = zipped(path) if as_zip else path
    with pytest.raises(CheckpointError, match=words):
        read_bundle(path)
    assert not (tmp_path / "was_run").exists()


def test_damaged_metadata(tmp_path):
    with pytest.raises(CheckpointError, match=r"metadata\.json' of .* is not JSON"):
        read_bundle(bundle(tmp_path, metadata="{'single': 1}"))


@pytest.mark.parametrize("as_zip", [False, True])
def test_no_weights(tmp_path, as_zip):
    path = bundle(tmp_path, weights=False)
    path = zipped(path) if as_zip else path
    assert is_bundle(path)
    with pytest.raises(CheckpointError, match=r"has no weights \(models/model.pt\); download"):
        read_bundle(path)


@pytest.mark.parametrize("as_zip", [False, True])
def test_damaged_weights_are_named_as_the_user_knows_them(tmp_path, as_zip):
    folder = bundle(tmp_path)
    (folder / "models" / "model.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    path = zipped(folder) if as_zip else folder
    with pytest.raises(CheckpointError) as error:
        read_bundle(path)
    assert str(error.value).startswith(f"{path} (models/model.pt) is a Git LFS pointer")


def test_truncated_zip(tmp_path):
    path = zipped(bundle(tmp_path))
    content = bytearray(path.read_bytes())
    start = content.index(b"my_bundle/models/model.pt") + 60
    content[start : start + 200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read completely"):
        read_bundle(path)


def test_absurd_sizes_are_refused(tmp_path, monkeypatch):
    folder = bundle(tmp_path)
    (folder / "models" / "model.pt").write_bytes(bytes(300_000))
    path = zipped(folder)
    monkeypatch.setattr(monai_bundle, "_MANY_BYTES", 200_000)
    with pytest.raises(CheckpointError, match="more than 100 times its size"):
        read_bundle(path)
    monkeypatch.setattr(monai_bundle, "_MANY_BYTES", 400_000)
    with pytest.raises(CheckpointError, match=r"model\.pt"):  # read, and no weights
        read_bundle(path)


def test_endless_configurations_are_refused(tmp_path, monkeypatch):
    folder = bundle(tmp_path)
    monkeypatch.setattr(monai_bundle, "_LARGEST_TEXT", 100)
    for path in (folder, zipped(folder)):
        with pytest.raises(CheckpointError, match="is not JSON"):
            read_bundle(path)


def test_members_outside_are_left_alone(tmp_path):
    folder = bundle(tmp_path, weights=False)
    path = zipped(folder)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("my_bundle/models/../../../model.pt", b"evil")
        file.writestr("/models/model.pt", b"evil")
    with pytest.raises(CheckpointError, match="has no weights"):
        read_bundle(path)
