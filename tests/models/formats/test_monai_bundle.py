"""MONAI bundles: what is taken from their configuration, without running it, and what is refused."""

import copy
import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.formats import monai_bundle, monai_input
from napari_cnnvis.models.formats.monai_bundle import is_bundle, read_bundle
from napari_cnnvis.models.formats.monai_config import Config, NotPlain
from napari_cnnvis.scan.conform import INTENSITY_RULES, InputSpec

DENSENET = "monai.networks.nets:DenseNet121(spatial_dims=3, in_channels=1, out_channels=2)"

METADATA = {
    "version": "0.1.0",
    "network_data_format": {
        "inputs": {"image": {"num_channels": 1, "spatial_shape": [96, 112, 96]}},
        "outputs": {"pred": {"num_channels": 2, "channel_def": {"1": "CN", "0": "AD"}}},
    },
}
INFERENCE = {
    "imports": ["$import glob"],
    "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
    "network_def": {
        "_target_": "DenseNet121",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 2,
    },
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.5, 2]},
            {"_target_": "ScaleIntensityd", "keys": "image"},
            {"_target_": "EnsureTyped", "keys": "image", "device": "@device"},
        ],
    },
}


def bundle(tmp_path, inference=None, metadata=None, weights=True, name="inference.json"):
    """A bundle's folder; `inference` and `metadata` are content, text or False for no file."""
    folder = tmp_path / "my_bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    inference = INFERENCE if inference is None else inference
    metadata = METADATA if metadata is None else metadata
    for file, content in ((name, inference), ("metadata.json", metadata)):
        if content is not False:
            as_json = file.endswith(".json")
            dumped = json.dumps(content) if as_json else yaml.safe_dump(content, sort_keys=False)
            text = content if isinstance(content, str) else dumped
            (folder / "configs" / file).write_text(text)
    if weights:
        torch.save({"w": torch.ones(2, 3)}, folder / "models" / "model.pt")
    return folder


def zipped(folder, top="my_bundle/"):
    path = folder.parent / "my_bundle.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member in sorted(folder.rglob("*")):
            if member.is_file():
                file.write(member, top + member.relative_to(folder).as_posix())
    return path


def with_network(**definition):
    return {**INFERENCE, "network_def": definition}


def with_steps(*steps):
    return {
        **INFERENCE,
        "preprocessing": {"_target_": "Compose", "transforms": list(steps)},
        "size": [48, 48, 32],
    }


def input_and_notes(tmp_path, *steps, metadata=False):
    file = read_bundle(bundle(tmp_path, with_steps(*steps), metadata))
    InputSpec(**file.header["input"])
    return file.header["input"], file.notes


EXPECTED_HEADER = {
    "architecture": DENSENET,
    "class_names": ["AD", "CN"],
    "input": {
        "orientation": "RAS",
        "spacing": [1.5, 1.5, 2],
        "shape": [96, 112, 96],
        "intensity": "range",
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


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("resnet10", "monai.networks.nets:resnet10()"),
        ("monai.networks.nets.resnet10", "monai.networks.nets:resnet10()"),
        ("monai.networks.nets.resnet.resnet10", "monai.networks.nets:resnet10()"),
        ("scripts.networks.MyNet", "scripts.networks:MyNet()"),
        ("os.mkdir", "os:mkdir()"),
    ],
)
def test_target(tmp_path, target, expected):
    folder = bundle(tmp_path, with_network(_target_=target))
    assert read_bundle(folder).header["architecture"] == expected


def test_arguments_and_references(tmp_path):
    config = {
        "nets": [{"channels": {"in": 2}}, "$(4, 8)"],
        "classes": "@n",
        "n": 3,
        "spatial": "$@n",
        "network_def": {
            "_target_": "AttentionUnet",
            "_desc_": "a net",
            "_requires_": ["@imports"],
            "_disabled_": False,
            "spatial_dims": "@spatial",
            "in_channels": "@nets::0::channels::in",
            "out_channels": "@classes",
            "channels": "@nets#1",
            "strides": "$[2, 2]",
            "act": ["leakyrelu", {"negative_slope": 0.2}],
            "norm": None,
            "bias": True,
            "name": 'it\'s "quoted" user@place costs $5',
        },
    }
    assert read_bundle(bundle(tmp_path, config)).header["architecture"] == (
        "monai.networks.nets:AttentionUnet(spatial_dims=3, in_channels=2, out_channels=3, "
        "channels=(4, 8), strides=[2, 2], act=['leakyrelu', {'negative_slope': 0.2}], norm=None, "
        "bias=True, name='it\\'s \"quoted\" user@place costs $5')"
    )


@pytest.mark.parametrize(
    "network",
    [
        "@network_def",
        "$@network_def",
        "$@network_def.to(@device)",
        "$@network_def.to('cuda:0').eval()",
        INFERENCE["network_def"],
    ],
)
def test_ways_to_name_the_network(tmp_path, network):
    config = {"network": network, "the_def": INFERENCE["network_def"]}
    if isinstance(network, str):
        config["network"] = network.replace("network_def", "the_def")
    assert read_bundle(bundle(tmp_path, config)).header["architecture"] == DENSENET


@pytest.mark.parametrize(
    "definition",
    [
        {"_target_": "resnet10", "n": "$__import__('os').mkdir('was_run')"},
        {"_target_": "resnet10", "n": "$@missing"},
        {"_target_": "resnet10", "n": "@device"},
        {"_target_": "resnet10", "n": "@loop"},
        {"_target_": "resnet10", "n": "%train.json::n"},
        {"_target_": "resnet10", "n": "$@n * 2"},
        {"_target_": "resnet10", "n": "$float('nan')"},
        {"_target_": "resnet10", "n": {"_target_": "torch.nn.ReLU"}},
        {"_target_": "resnet10", "not a name": 1},
        {"_target_": "resnet10", "class": 1},
        {"_target_": "resnet10(exec('1'))"},
        {"_target_": "$monai.networks.nets.resnet10"},
        {"_target_": ["resnet10"]},
        {"spatial_dims": 3},
        "$monai.networks.nets.resnet10(spatial_dims=3)",
        "@missing",
        None,
        5,
    ],
    ids=str,
)
def test_networks_made_by_code_are_not_run(tmp_path, definition, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = {**INFERENCE, "network_def": definition, "loop": "@loop2", "loop2": "$@loop", "n": 2}
    folder = bundle(tmp_path, config)
    file = read_bundle(folder)
    assert "architecture" not in file.header
    assert file.header["class_names"] == ["AD", "CN"]
    (note,) = file.notes
    assert note.startswith("the bundle's network is defined by Python code (")
    assert note.endswith("which is not run; give the network: load_model(path, arch=...)")
    assert not (tmp_path / "was_run").exists()


def test_references_that_grow_without_end_stop():
    content = {f"a{n}": [f"@a{n + 1}"] * 9 for n in range(40)}
    with pytest.raises(NotPlain, match="without an end"):
        Config({**content, "a40": 1}).plain("@a0")
    itself = []
    itself.append(itself)
    with pytest.raises(NotPlain, match="without an end"):
        Config({}).plain(itself)


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


def test_transforms_exist_in_monai_and_do_the_same():
    transforms = pytest.importorskip("monai.transforms")
    gone = {"AddChannel", "AsChannelFirst"}  # from MONAI 1.x on
    for name in {*monai_input._READERS, *monai_input._HARMLESS} - gone:
        assert hasattr(transforms, f"{name}d")
    x = np.random.default_rng(0).gamma(2, 3, (8, 9, 10)).astype(np.float32)
    x[:4] = 0
    for rule, transform in {
        "range": transforms.ScaleIntensity(),
        "percentile": transforms.ScaleIntensityRangePercentiles(1, 99, 0, 1, clip=True),
    }.items():
        assert np.allclose(INTENSITY_RULES[rule](x), transform(x[None])[0], atol=1e-5)
    normalized = transforms.NormalizeIntensity(nonzero=True)(x[None])[0].numpy()
    assert np.allclose(INTENSITY_RULES["z-score"](x)[x != 0], normalized[x != 0], atol=1e-4)


LOAD = {"_target_": "LoadImage"}


@pytest.mark.parametrize(
    ("step", "field"),
    [
        ({"_target_": "Orientation", "axcodes": "LPS"}, {"orientation": "LPS"}),
        ({"_target_": "OrientationD", "keys": ["image"], "axcodes": ["L", "A", "S"]},
         {"orientation": "LAS"}),
        ({"_target_": "monai.transforms.OrientationDict", "keys": "image",
          "as_closest_canonical": True}, {"orientation": "RAS"}),
        ({"_target_": "Spacing", "pixdim": 2}, {"spacing": [2, 2, 2]}),
        ({"_target_": "Spacing", "pixdim": [1.0, 2.0]}, {"spacing": [1.0, 2.0, 2.0]}),
        ({"_target_": "CenterSpatialCrop", "roi_size": 64}, {"shape": [64, 64, 64]}),
        ({"_target_": "ResizeWithPadOrCropd", "keys": "image", "spatial_size": "@size"},
         {"shape": [48, 48, 32]}),
        ({"_target_": "ScaleIntensity", "minv": 0.0, "maxv": 1.0}, {"intensity": "range"}),
        ({"_target_": "ScaleIntensityRangePercentilesd", "keys": "image", "lower": 1, "upper": 99,
          "b_min": 0, "b_max": 1, "clip": True}, {"intensity": "percentile"}),
        ({"_target_": "Resized", "keys": "image", "spatial_size": [96, 96, 64]},
         {"shape": [96, 96, 64], "resize": True}),
        ({"_target_": "ToTensord", "keys": ["image", "label"]}, {}),
        ({"_target_": "Lambdad", "keys": "label", "func": "$lambda x: x"}, {}),
        ({"_target_": "CropForeground", "_disabled_": True}, {}),
    ],
)  # fmt: skip
def test_steps_that_are_reproduced(tmp_path, step, field):
    assert input_and_notes(tmp_path, LOAD, step) == ({"intensity": "none", **field}, ())


@pytest.mark.parametrize(
    ("step", "field", "words"),
    [
        ({"_target_": "NormalizeIntensity", "nonzero": True}, {"intensity": "z-score"},
         "leaves voxels of 0 at 0"),
        ({"_target_": "ScaleIntensityRangePercentiles", "lower": 1, "upper": 99, "b_min": 0.0,
          "b_max": 1.0}, {"intensity": "percentile"}, "does not clip"),
    ],
)  # fmt: skip
def test_steps_that_differ_a_little(tmp_path, step, field, words):
    fields, (note,) = input_and_notes(tmp_path, LOAD, step)
    assert fields == {"intensity": "none", **field}
    assert words in note


@pytest.mark.parametrize(
    "step",
    [
        {"_target_": "Orientation", "axcodes": "RAX"},
        {
            "_target_": "Orientation",
            "axcodes": "RAS",
            "labels": [["R", "L"], ["A", "P"], ["I", "S"]],
        },
        {"_target_": "Spacing", "pixdim": [1, 1, -1]},
        {"_target_": "Spacing", "pixdim": "$np.ones(3)"},
        {"_target_": "Resize", "spatial_size": [64, 64, -1]},
        {"_target_": "Resize", "spatial_size": 64, "size_mode": "longest"},
        {"_target_": "ResizeWithPadOrCrop", "spatial_size": 64, "method": "end"},
        {"_target_": "SpatialPad", "spatial_size": 64},
        {"_target_": "NormalizeIntensity"},
        {"_target_": "NormalizeIntensity", "nonzero": True, "subtrahend": 3},
        {"_target_": "ScaleIntensity", "minv": -1},
        {"_target_": "ScaleIntensity", "minv": None, "maxv": None, "factor": 2},
        {"_target_": "ScaleIntensityRange", "a_min": 0, "a_max": 9, "b_min": 0, "b_max": 1},
        {
            "_target_": "ScaleIntensityRangePercentiles",
            "lower": 5,
            "upper": 95,
            "b_min": 0,
            "b_max": 1,
        },
        {"_target_": "CropForeground"},
    ],
    ids=str,
)
def test_steps_that_are_not_understood_are_named(tmp_path, step):
    fields, notes = input_and_notes(tmp_path, LOAD, step)
    assert fields == {"intensity": "none"}
    assert notes == (f"the bundle also applies {step['_target_']}, which is not reproduced",)


def test_several_steps(tmp_path):
    fields, notes = input_and_notes(
        tmp_path,
        LOAD,
        {"_target_": "CropForegroundd", "keys": ["image"], "source_key": "image"},
        {"_target_": "ScaleIntensityd", "keys": "image"},
        {"_target_": "SpatialPadd", "keys": "image", "spatial_size": [48, 48, 32]},
        {"_target_": "Compose", "transforms": [
            {"_target_": "CenterSpatialCropd", "keys": "image", "roi_size": "@size"}]},
        {"_target_": "CenterSpatialCropd", "keys": "image", "roi_size": 16},
        {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True},
        "$my_own_step",
        metadata=METADATA,
    )  # fmt: skip
    assert fields == {"shape": [48, 48, 32], "intensity": "z-score"}
    assert notes == (
        "only the last of the bundle's intensity steps is reproduced",
        "the bundle's NormalizeIntensity leaves voxels of 0 at 0; here they are shifted like the "
        "others",
        "the bundle also applies CropForegroundd, CenterSpatialCropd, Python code ($my_own_step), "
        "which are not reproduced",
    )


def test_preprocessing_made_by_code(tmp_path):
    config = {**INFERENCE, "preprocessing": "$make_steps()"}
    file = read_bundle(bundle(tmp_path, config, metadata=False))
    assert file.header["input"] == {"intensity": "none"}
    assert file.notes == (
        "the bundle also applies Python code ($make_steps()), which is not reproduced",
    )


def test_nothing_said_of_preprocessing(tmp_path):
    config = {"network_def": INFERENCE["network_def"]}
    assert read_bundle(bundle(tmp_path, config, metadata=False)).header == {
        "architecture": DENSENET
    }


@pytest.mark.parametrize(
    ("inputs", "fields"),
    [
        ({"num_channels": 4, "spatial_shape": [8, 8, 8]}, {"shape": [8, 8, 8], "channels": 4}),
        ({"num_channels": 1, "spatial_shape": ["16*n", "*", 16]}, None),
        ({"num_channels": "n", "spatial_shape": [64, 64]}, None),
        ({"spatial_shape": [0, 8, 8]}, None),
        ([1], None),
        ("image", None),
    ],
)
def test_inputs_in_the_metadata(tmp_path, inputs, fields):
    metadata = {"network_data_format": {"inputs": {"image": inputs}}}
    config = {"network_def": INFERENCE["network_def"]}
    assert read_bundle(bundle(tmp_path, config, metadata)).header.get("input") == fields


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
    assert str(error.value).startswith(f"{path} (models/model.pt) is not a checkpoint")


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
