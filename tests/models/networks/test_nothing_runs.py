"""Whatever names a network, and wherever the name comes from: nothing runs."""

import json
import sys
import zipfile

import numpy as np
import pytest
import torch

import napari_cnnvis as cv
from napari_cnnvis.cli import main
from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.cache import CheckpointCache
from napari_cnnvis.models.checkpoint import load_model
from napari_cnnvis.models.doctor import examine_checkpoint
from napari_cnnvis.models.networks.factories import NeedsTrust
from napari_cnnvis.models.settings import Recipe, file_hash, remember

from .named_networks import in_bundle, in_header, in_sidecar, state

#: what a file or a user may write for an architecture, each of which would leave a canary
HOSTILE = [
    "os:system('touch {canary}')",
    "os:mkdir('{canary}')",
    "posix:mkdir('{canary}')",
    "subprocess:run(['touch', '{canary}'])",
    "subprocess:Popen(['touch', '{canary}'])",
    'builtins:exec(\'open("{canary}", "w")\')',
    'builtins:eval(\'open("{canary}", "w")\')',
    "builtins:open('{canary}', 'w')",
    "pathlib:Path.touch('{canary}')",
    "shutil:copy('{folder}/evil.py', '{canary}')",
    "runpy:run_path('{folder}/evil.py')",
    "torch:load('{folder}/evil.pkl', weights_only=False)",
    "torch:save({{}}, '{canary}')",
    "torch.hub:load('{folder}', 'evil', source='local', trust_repo=True)",
    "torch.serialization:save({{}}, '{canary}')",
    "monai.networks.nets.resnet:Path('{canary}')",
    "monai.networks.nets:torch.save({{}}, '{canary}')",
    "monai.networks.nets.efficientnet:model_zoo.load_url('file://{folder}/evil.pkl')",
    "monai.networks.nets:HoVerNet(pretrained_url='file://{folder}/evil.pkl')",
    "monai.networks.nets:HoVerNet('FAST', 3, 2, 0, 'relu', 'batch', False, 0.0, 'file://{folder}/evil.pkl')",
    "monai.networks.nets.hovernet:_remap_preact_resnet_model('file://{folder}/evil.pkl')",
    "napari_cnnvis.models.checkpoint:load_model('{folder}/evil.pkl', trust=True)",
    "napari_cnnvis.models.formats.checkpoint_file:write_safetensors('{canary}', {{}}, {{}})",
    "napari_cnnvis.scan.volume:atomic_path('{canary}')",
    "{folder}/evil.py:Net()",
    "{folder}/evil.py:os.mkdir('{canary}')",
]


#: importing this module is enough; the user may do that, a file may not
FROM_FILES = [*HOSTILE, "evil_cnnvis_module:Net()", "evil_cnnvis_module.part:Net()"]


def hostile(text, folder):
    return text.format(canary=folder / "canary", folder=folder)


def in_zipped_bundle(text, folder):
    bundle = in_bundle(text, folder)
    with zipfile.ZipFile(folder / "bundle.zip", "w") as archive:
        for path in bundle.rglob("*.*"):
            archive.write(path, path.relative_to(folder))
    return folder / "bundle.zip"


def in_maps(text, folder):
    best = folder / "maps/split-0/best-loss"
    best.mkdir(parents=True)
    training = {"network_task": "classification", "architecture": text, "input_size": [1, 9, 9, 9]}
    (folder / "maps/maps.json").write_text(json.dumps(training))
    torch.save({"model": state()}, best / "model.pth.tar")
    return folder / "maps"


@pytest.mark.parametrize("text", FROM_FILES)
@pytest.mark.parametrize("place", [in_header, in_sidecar, in_bundle, in_zipped_bundle, in_maps])
def test_what_a_file_names_is_not_run(folder, plain, place, text):
    path = place(hostile(text, folder), folder)
    with pytest.raises(CheckpointError) as caught:
        load_model(path, "cpu")
    assert len(plain(caught.value)) < 900
    assert examine_checkpoint(path, device="cpu").problem
    assert "evil_cnnvis_module" not in sys.modules


@pytest.mark.parametrize("text", FROM_FILES)
def test_what_was_remembered_or_recorded_is_not_run(folder, plain, text):
    torch.save(state(), folder / "net.pt")
    recipe = Recipe(hostile(text, folder))
    remember(file_hash(folder / "net.pt"), Recipe(recipe.arch, arch_by_user=True))
    for given in (None, recipe):  # what was remembered; what "Run again" takes from a record
        with pytest.raises(CheckpointError) as caught:
            CheckpointCache().load(folder / "net.pt", given, device="cpu")
        plain(caught.value)
    assert "evil_cnnvis_module" not in sys.modules


@pytest.mark.parametrize("text", HOSTILE)
def test_what_the_user_types_is_looked_at_before_it_is_called(folder, plain, text, capsys):
    torch.save(state(), folder / "net.pt")
    arch = hostile(text, folder)
    with pytest.raises(CheckpointError) as caught:
        load_model(folder / "net.pt", "cpu", arch)
    plain(caught.value)
    cv.write_volume(cv.Volume(np.ones((9, 9, 9))), folder / "s.nii")
    net, output = str(folder / "net.pt"), str(folder / "m.nii")
    assert main(["info", net, "--arch", arch]) != 0
    assert main(["explain", str(folder / "s.nii"), "--model", net, "--arch", arch, "-o", output])
    assert "Traceback" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("text", ["os:system('touch {canary}')", "{folder}/evil.py:Net()"])
def test_training_makes_classes_of_networks_only(folder, plain, text):
    from napari_cnnvis.training.start_networks import NetworkPlan

    with pytest.raises(CheckpointError) as caught:
        NetworkPlan(hostile(text, folder), 2).make(torch.zeros(1, 1, 9, 9, 9))
    plain(caught.value)


def test_trust_says_what_it_is_needed_for(folder):
    with pytest.raises(NeedsTrust, match="trust=True") as caught:
        load_model(in_header("evil_cnnvis_module:Net(3)", folder), "cpu")
    assert caught.value.suggestion == "evil_cnnvis_module:Net(3)"
