"""Weights of one network in several files."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.cli import main
from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.cache import CheckpointCache
from napari_cnnvis.models.parts import joined
from napari_cnnvis.models.settings import Recipe

CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 4, 3), nn.ReLU()
        )
        self.head = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))

    def forward(self, x):
        return self.head(self.backbone(x).mean((2, 3, 4)))
"""


def network():
    torch.manual_seed(0)
    space = {}
    exec(CODE, space)
    return space["Net"]().eval()


def fresh():
    return type(network())()


def same(model, net):
    given = model.module.state_dict()
    return all(torch.equal(given[k], v) for k, v in net.state_dict().items())


def behind(prefix, module):
    return {f"{prefix}{k}": v for k, v in module.state_dict().items()}


WAYS = {
    "parts by themselves": lambda n: (n.backbone.state_dict(), n.head.state_dict()),
    "with the network's names": lambda n: (behind("backbone.", n.backbone), behind("head.", n.head)),
    "one of each": lambda n: (n.backbone.state_dict(), behind("head.", n.head)),
    "behind other prefixes": lambda n: (behind("model.encoder.", n.backbone), behind("mlp.", n.head)),
    "parallel": lambda n: (behind("module.", n.backbone), behind("module.", n.head)),
    "wrapped": lambda n: ({"state_dict": n.backbone.state_dict()}, {"ema": n.head.state_dict()}),
    "uneven": lambda n: (
        {k: v for k, v in n.state_dict().items() if not k.startswith("head.2.")},
        n.head[2].state_dict(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("way", WAYS)
def test_two_files_make_one_network(tmp_path, way, order, ending):
    net = network()
    paths = [tmp_path / f"first.{ending}", tmp_path / f"second.{ending}"]
    for path, state in zip(paths, WAYS[way](net), strict=True):
        if ending == "safetensors":
            plain = state.get("state_dict", state.get("ema", state))
            save_file({k: v.contiguous() for k, v in plain.items()}, path)
        else:
            torch.save(state, path)
    model = cv.load_model(paths[::order], arch=fresh(), device="cpu")
    assert same(model, net)
    assert model.path == str(paths[::order][0])
    assert model.more_files == (str(paths[::order][1]),)


def test_three_files(tmp_path):
    net = network()
    parts = {"a": net.backbone[:3], "b": net.backbone[3], "c": net.head}
    for name, part in parts.items():
        torch.save(part.state_dict(), tmp_path / f"{name}.pt")
    # what lies at "3" in the backbone is saved by itself, so its place is found by its shapes
    model = cv.load_model([tmp_path / f"{n}.pt" for n in "abc"], arch=fresh(), device="cpu")
    assert same(model, net)


def test_a_files_name_decides_where_two_places_fit():
    class Twins(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(3, 3), nn.Linear(3, 3)

    net = Twins()
    files = {"fold1_right": net.right.state_dict(), "fold1_left": net.left.state_dict()}
    assert {where: name for name, where, _ in joined(Twins(), files)} == {
        "right": "fold1_right",
        "left": "fold1_left",
    }


@pytest.fixture
def files(tmp_path):
    net = network()
    torch.save(net.backbone.state_dict(), tmp_path / "backbone.pth")
    torch.save(net.head.state_dict(), tmp_path / "head.pth")
    (tmp_path / "nets.py").write_text(CODE)
    return net, tmp_path / "backbone.pth", tmp_path / "head.pth"


def test_a_part_alone_says_what_is_missing(files, plain):
    with pytest.raises(CheckpointError) as caught:
        cv.load_model(files[1], arch=fresh(), device="cpu")
    text = plain(caught.value, files[1])
    assert "4 of 12 weights are missing; all start with 'head.'" in text
    assert "The file holds the network's 'backbone' only" in text
    assert "--more-files" in text


def test_files_that_do_not_go_together_name_both(files, tmp_path, plain):
    _, backbone, _ = files
    torch.save(nn.Linear(7, 3).state_dict(), tmp_path / "other.pth")
    with pytest.raises(CheckpointError) as caught:
        cv.load_model([backbone, tmp_path / "other.pth"], arch=fresh(), device="cpu")
    text = plain(caught.value, f"{backbone} with {tmp_path / 'other.pth'}")
    assert "does not fit Net" in text


def test_one_file_twice_is_refused(files):
    with pytest.raises(CheckpointError, match="does not fit"):
        cv.load_model([files[1], files[1]], arch=fresh(), device="cpu")


def test_no_file_is_refused(plain):
    with pytest.raises(CheckpointError) as caught:
        cv.load_model([], device="cpu")
    plain(caught.value)


def test_a_whole_network_is_no_part(files, tmp_path):
    torch.save(network().head, tmp_path / "whole.pt")
    with pytest.raises(CheckpointError, match="load it by itself"):
        cv.load_model([files[1], tmp_path / "whole.pt"], arch=fresh(), trust=True, device="cpu")


def test_the_doctor_looks_at_all_files(files):
    report = cv.examine_checkpoint(list(files[1:]), arch=fresh(), device="cpu")
    assert (report.usable, report.matched, report.expected) == (True, 12, 12)


def test_record_script_and_cache_name_all_files(files):
    net, backbone, head = files
    arch = f"{backbone.parent / 'nets.py'}:Net()"
    scan = cv.Volume(np.random.default_rng(0).random((12,) * 3).astype(np.float32), np.eye(4), "s")
    model = cv.load_model([backbone, head], arch=arch, trust=True, device="cpu")
    attribution = cv.grad_cam(model, scan, target=0)
    assert attribution.record.values["model"]["more_files"] == [str(head)]
    assert repr([str(backbone), str(head)]) in attribution.record.script()
    cache = CheckpointCache()
    recipe = Recipe(arch=arch, arch_by_user=True, more_files=("head.pth",))  # beside the first
    loaded = cache.load(backbone, recipe, trust=True, device="cpu")
    assert same(loaded.model, net)
    torch.save(type(net.head)(*type(net)().head).state_dict(), head)
    assert not same(cache.load(backbone, recipe, trust=True, device="cpu").model, net)


def test_on_the_command_line(files, capsys):
    _, backbone, head = files
    arch = ["--arch", f"{backbone.parent / 'nets.py'}:Net()", "--trust", "--device", "cpu"]
    assert main(["info", str(backbone), "--more-files", str(head), "--json", *arch]) == 0
    assert json.loads(capsys.readouterr().out)["matched"] == 12
    assert main(["info", str(backbone), *arch]) == 2
