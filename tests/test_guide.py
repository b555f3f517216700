"""README and guide: every link leads somewhere, every Python block runs, every command parses."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import napari_cnnvis
import napari_cnnvis as cv
from napari_cnnvis.cli import _parser
from napari_cnnvis.guide import page, pages

ROOT = Path(napari_cnnvis.__file__).parents[1]
GUIDE = page("index").parent
MEGABYTE = 1e6

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s]+)\)")

MY_NETS = """
from torch import nn


def make_net(width):
    layers = [nn.Conv3d(1, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width, 2))


class AgeNet(nn.Sequential):
    def __init__(self):
        layers = [nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1)]
        super().__init__(*layers, nn.Flatten(), nn.Linear(4, 1))


class TwoPartNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = make_net(width=8)[:4], nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.backbone(x))
"""


def documents():
    """Name and path of the guide's pages and, in a checkout, what is beside the package."""
    found = {name: page(name) for name in pages()}
    for name in ("README.md", "tests/benchmarks/README.md", ".github/CHANGELOG.md"):
        if (ROOT / "pyproject.toml").is_file():
            found[name] = ROOT / name
    return found


def blocks(language):
    """Documents that have code in a language, with it."""
    every = {
        name: [code for kind, code in _BLOCK.findall(path.read_text("utf-8")) if kind == language]
        for name, path in documents().items()
    }
    return {name: code for name, code in every.items() if code}


def prose(path):
    """A document without its code."""
    return re.sub(r"`[^`\n]*`", "", _BLOCK.sub("", path.read_text("utf-8")))


# --- pages -------------------------------------------------------------------------


def test_a_page_is_a_file_with_a_title():
    for name in pages():
        assert page(name).read_text("utf-8").startswith("# ")
    with pytest.raises(ValueError, match="no page 'advice'"):
        page("advice")
    with pytest.raises(ValueError, match="no page"):
        page("../index")


def test_the_index_lists_every_page():
    linked = {link for _, link in _LINK.findall(prose(page("index")))}
    assert linked == {f"{name}.md" for name in pages() if name != "index"}


@pytest.mark.parametrize("name", documents())
def test_links_and_pictures_are_there(name):
    path = documents()[name]
    for _, link in _LINK.findall(prose(path)):
        if link.startswith(("https://", "#")):
            continue
        target = (path.parent / link).resolve()
        assert target.is_file(), f"{name} links to {link}"
        if path.parent == GUIDE:  # the guide is shipped without what is beside the package
            assert GUIDE in target.parents, f"{name} links to {link}, which is not in the guide"


def test_pictures_are_shown_and_small():
    shown = set()
    for path in documents().values():
        for mark, link in _LINK.findall(prose(path)):
            if mark:
                shown.add((path.parent / link).resolve())
    pictures = set((GUIDE / "pictures").resolve().iterdir())
    assert pictures <= shown
    assert sum(picture.stat().st_size for picture in pictures) < 8 * MEGABYTE


def test_the_readme_is_short():
    if "README.md" not in documents():
        pytest.skip("the README is in the repository only")
    assert len(documents()["README.md"].read_text("utf-8").splitlines()) <= 150


def test_pages_and_pictures_are_part_of_the_package():
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    known = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", str(GUIDE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert {ROOT / path for path in known} >= {*GUIDE.glob("*.md"), *GUIDE.glob("pictures/*")}


# --- code --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with the files that the blocks name, tiny ones."""
    folder = tmp_path_factory.mktemp("guide")
    rng = np.random.default_rng(0)
    size = 24
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    near = np.linalg.norm(np.indices((size,) * 3) - (size - 1) / 2, axis=0)
    head = near < 10
    scan = np.where(head, 100 + 40 * (near < 5) + rng.normal(0, 5, head.shape), 0)
    truth = near < 4
    labels = np.where(head, 17 + 36 * (np.indices(head.shape)[0] > size // 2), 0)
    volumes = {
        "scan.nii.gz": scan.astype(np.float32),
        "map.nii.gz": (scan * truth / 100).astype(np.float32),
        "truth.nii.gz": truth.astype(np.uint8),
        "atlas.nii.gz": labels.astype(np.int16),
    }
    for name, data in volumes.items():
        nib.save(nib.Nifti1Image(data, affine), folder / name)
    nib.save(nib.MGHImage(labels.astype(np.int32), affine), folder / "aparc+aseg.mgz")
    (folder / "metadata.csv").write_text("Path,Label\nscan.nii.gz,atrophy\n")
    (folder / "my_nets.py").write_text(MY_NETS)
    spaces = {}
    exec(MY_NETS, spaces)
    torch.manual_seed(0)
    torch.save(spaces["make_net"](width=16).state_dict(), folder / "net.pt")
    torch.save(spaces["AgeNet"]().state_dict(), folder / "age.pt")
    two_parts = spaces["TwoPartNet"]()
    for part in ("backbone", "head"):
        torch.save(getattr(two_parts, part).state_dict(), folder / f"{part}.pth")
    (folder / "alzheimer_net.py").write_text(blocks("python")["published"][0])
    spaces = {}
    exec(blocks("python")["published"][0], spaces)
    for number in range(5):
        net = spaces["AlzheimerNet"]()
        torch.save(net.backbone.state_dict(), folder / f"backbone_cross{number}.pth")
        torch.save(net.head.state_dict(), folder / f"ADD_cross{number}.pth")
    mni = np.diag([-2.0, 2, 2, 1])  # of 2 mm: brought to 1 mm by the page's settings
    mni[:3, 3] = 90, -126, -72
    in_mni = np.zeros((91, 109, 91), np.float32)
    in_mni[30:60, 40:70, 30:60] = 100 + 50 * (np.indices((30, 30, 30)) // 15).sum(0)
    nib.save(nib.Nifti1Image(in_mni, mni), folder / "mni_scan.nii.gz")
    nets = pytest.importorskip("monai.networks.nets")
    # with global average pooling and one linear layer, so that CAM applies
    small = {"init_features": 4, "growth_rate": 2, "block_config": (1, 1)}
    arguments = ", ".join(f"{k}={v}" for k, v in {**small, "spatial_dims": 3}.items())
    cv.save_model(
        nets.DenseNet(spatial_dims=3, in_channels=1, out_channels=2, **small),
        folder / "net.safetensors",
        arch=f"monai.networks.nets:DenseNet({arguments}, in_channels=1, out_channels=2)",
        class_names=["control", "atrophy"],
    )
    resnet18 = nets.resnet18(spatial_dims=3, n_input_channels=1, num_classes=2)
    torch.save(resnet18.state_dict(), folder / "resnet18.pt")
    return folder


#: pages whose blocks take half a minute
LONG = ("published",)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in blocks("python")],
)
def test_python_blocks_run(name, prepared, tmp_path, monkeypatch):
    for path in prepared.iterdir():
        os.symlink(path, tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)
    space = {"__name__": "page"}
    for number, code in enumerate(blocks("python")[name], start=1):
        exec(compile(code, f"{name}, Python block {number}", "exec"), space)
    sys.modules.pop("my_nets", None)


def commands(code):
    """Arguments of each line of a shell script that calls napari-cnnvis."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        names = [Path(word).name for word in words]
        if "napari-cnnvis" in names:
            yield words[names.index("napari-cnnvis") + 1 :]


@pytest.mark.parametrize("name", blocks("bash"))
def test_commands_parse(name):
    parser = _parser()
    for code in blocks("bash")[name]:
        for arguments in commands(code):
            assert parser.parse_args(arguments).run


def test_inline_commands_name_real_ones():
    parser = _parser()
    (choices,) = (a.choices for a in parser._actions if a.choices)
    for name, path in documents().items():
        for command in re.findall(r"`napari-cnnvis ([a-z]+)", path.read_text("utf-8")):
            assert command in choices, f"{name}: napari-cnnvis {command}"


def test_the_readme_and_the_checks_run_the_same_two_commands():
    script = ROOT / ".ci" / "run"
    if not script.is_file():
        pytest.skip("not a checkout")
    readme = "".join(blocks("bash")["README.md"])
    assert script.read_text("utf-8").splitlines()[-1] in readme.splitlines()
    assert "bash .ci/setup && .venv/bin/napari-cnnvis demo --screenshot demo.png" in readme
