"""Keys follow from what scans, models and requests hold, and from nothing else."""

import os

import numpy as np
import pytest
import torch

from napari_cnnvis.cohort.keys import ResultKeys, scan_hash
from napari_cnnvis.errors import MethodError, VolumeError
from napari_cnnvis.explain.registry import methods
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.volume import Volume

REQUEST = ExplainRequest("sensitivity", 1)
OTHER = {
    "layer": "0",
    "relu": False,
    "score": "log_prob",
    "alignment": "receptive field",
    "against": "AD",
    "baseline": 0.0,
    "quantity": "probability",
    "finest": 100,
    "levels": (30, 10),
    "level_weights": (1.0, 0.5),
    "shown": "blur",
    "join": "strongest",
    "margin": 6.0,
    "smooth": 12.0,
    "size": 5,
    "stride": 3,
    "inside": "everywhere",
    "time_budget": 60.0,
    "precision": "half",
    "sign": "absolute",
    "noise": 0.2,
    "samples": 5,
    "squared": True,
    "seed": 3,
    "steps": 30,
}
PARAMETERS = [(key, name) for key, method in methods().items() for name in method.parameters()]


def key(model, request=REQUEST, orientation=None, scan="s"):
    return ResultKeys(model).attribution(scan, request, orientation)


def test_every_parameter_of_every_method_is_tried_here():
    assert set(OTHER) == {name for _, name in PARAMETERS}


@pytest.mark.parametrize(("method", "name"), PARAMETERS)
def test_each_parameter_of_a_request_counts(model, method, name):
    request = ExplainRequest(method, 1)
    assert key(model, request.replaced(**{name: OTHER[name]})) != key(model, request)


def test_method_and_class_count(model):
    assert len({key(model, ExplainRequest(method, 1)) for method in methods()}) == len(methods())
    assert key(model, REQUEST.replaced(0)) != key(model)


def test_the_axes_and_the_scan_count(model):
    assert len({key(model), key(model, orientation="SAR"), key(model, scan="t")}) == 3
    keys = ResultKeys(model)
    assert len({keys.prediction("s"), keys.prediction("t"), keys.attribution("s", REQUEST)}) == 3


def test_a_class_is_the_same_by_name_and_numbers_by_type(model):
    assert key(model, REQUEST.replaced("AD")) == key(model)
    assert key(model, REQUEST.replaced(np.int64(1))) == key(model)
    assert key(model, REQUEST.replaced(margin=np.float32(0))) == key(model)
    box = ExplainRequest("box", 1)
    assert key(model, box.replaced(size=np.int64(7))) == key(model, box)


def test_baseline_volumes_count_by_content(model):
    data = np.zeros((3, 3, 3), np.float32)
    changed = data.copy()
    changed[0, 0, 0] = 1
    volumes = [Volume(data), Volume(changed), Volume(data, np.diag([2, 1, 1, 1])), Volume(data)]
    keys = [key(model, REQUEST.replaced(baseline=v)) for v in volumes]
    assert len(set(keys)) == 3
    assert keys[0] == keys[3]


def test_weights_input_classes_and_architecture_count(make_model):
    keys = {key(make_model())}
    assert key(make_model()) in keys
    keys.add(key(make_model(seed=1)))
    keys.add(key(make_model(input_spec=InputSpec(intensity="z-score"))))
    keys.add(key(make_model(class_names=["CN", "AD"])))
    keys.add(key(make_model(output="sigmoid")))
    strided = make_model()
    strided.module[0].stride = (2, 2, 2)
    keys.add(key(strided))
    trained = make_model()
    with torch.no_grad():
        trained.module[4].bias[0] += 1e-6
    keys.add(key(trained))
    assert len(keys) == 7


def test_each_way_to_prepare_a_scan_counts(make_model):
    """All chains of intensity rules and of steps have keys of their own; the same has the same."""
    specs = [
        InputSpec(),
        InputSpec(intensity="mean"),
        InputSpec(intensity="mean, clip 0 8"),
        InputSpec(intensity="clip 0 8, mean"),
        InputSpec(intensity="mean, clip 0 9"),
        InputSpec(steps="ScaleIntensity()"),
        InputSpec(steps="ScaleIntensity(minv=-1)"),
        InputSpec(steps="ScaleIntensity()", intensity="mean"),
        InputSpec(steps="ScaleIntensity(), CenterSpatialCrop((8, 8, 8))"),
        InputSpec(steps="CenterSpatialCrop((8, 8, 8)), ScaleIntensity()"),
    ]
    keys = [key(make_model(input_spec=spec)) for spec in specs]
    assert len(set(keys)) == len(specs)
    written = InputSpec(**{**specs[6].to_dict(), "steps": "ScaleIntensity( minv = -1.0 )"})
    assert key(make_model(input_spec=written)) == keys[6]


def test_where_the_checkpoint_lies_does_not_count(make_model):
    assert key(make_model(path="/a/net.pt")) == key(make_model(path="/b/other.pt"))


def test_a_class_that_is_not_there_and_all_layers_are_refused(model, plain):
    for request in (REQUEST.replaced(2), ExplainRequest("grad-cam", 0, layer="all")):
        with pytest.raises(MethodError) as caught:
            key(model, request)
        plain(caught.value)


def test_a_scans_hash_follows_its_content_not_its_name(tmp_path, write_scan):
    first = write_scan(tmp_path / "a.nii", seed=1)
    same = write_scan(tmp_path / "b" / "c.nii", seed=1)
    other = write_scan(tmp_path / "d.nii", seed=2)
    assert scan_hash(first) == scan_hash(same) != scan_hash(other)
    before = scan_hash(first)
    with first.open("r+b") as file:
        file.seek(400)
        file.write(b"\x01\x02")
    os.utime(first, ns=(0, first.stat().st_mtime_ns + 1))
    assert scan_hash(first) != before


def test_both_files_of_a_pair_count(tmp_path):
    (tmp_path / "a.img").write_bytes(b"voxels")
    (tmp_path / "a.hdr").write_bytes(b"one")
    before = scan_hash(tmp_path / "a.img")
    (tmp_path / "a.hdr").write_bytes(b"other")
    assert scan_hash(tmp_path / "a.img") != before


def test_an_unchanged_file_is_read_once(tmp_path, write_scan, monkeypatch):
    import builtins

    path = write_scan(tmp_path / "a.nii", seed=3)
    before = scan_hash(path)
    monkeypatch.setattr(builtins, "open", None)
    assert scan_hash(path) == before


def test_a_scan_that_cannot_be_read_is_said_plainly(tmp_path, plain):
    with pytest.raises(VolumeError) as caught:
        scan_hash(tmp_path / "gone.nii")
    plain(caught.value, "gone.nii")
