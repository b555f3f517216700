"""A bundle's network is taken from its configuration without running it."""

import pytest

from napari_cnnvis.models.formats.monai_bundle import read_bundle
from napari_cnnvis.models.formats.monai_config import Config, NotPlain

from .bundles import DENSENET, INFERENCE, bundle, with_network


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
