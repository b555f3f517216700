"""Networks that take another scan besides the one that is explained."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.cli import main
from napari_cnnvis.errors import MethodError

CODE = """
import torch
from torch import nn

class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(1, 4, 3, padding=1)
        self.out = nn.Linear(9, 2)

    def forward(self, t1, t2, age):
        y = torch.relu(torch.cat([self.one(t1), self.two(t2)], 1)).mean((2, 3, 4))
        return self.out(torch.cat([y, age.reshape(-1, 1) / 100], 1))
"""
SHAPE = (16, 14, 12)


def network():
    torch.manual_seed(0)
    space = {}
    exec(CODE, space)
    return space["Pair"]().eval()


class Dictionary(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, batch):
        return self.net(batch["image"], batch["t2"], batch["age"])


class Added(nn.Module):
    """The second scan is a map of weights for the first."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()
        )
        self.out = nn.Linear(4, 2)

    def forward(self, x, weights):
        return self.out(self.net(x * (1 + weights)))


def written(path, seed, affine=None, shape=SHAPE):
    data = np.random.default_rng(seed).random(shape).astype(np.float32)
    cv.write_volume(cv.Volume(data, np.eye(4) if affine is None else affine, path.stem), path)
    return data


@pytest.fixture
def pair(tmp_path):
    t1, t2 = tmp_path / "t1.nii.gz", tmp_path / "t2.nii.gz"
    return (t1, written(t1, 0)), (t2, written(t2, 1))


SPECS = {
    "as stored": cv.InputSpec(intensity="none"),
    "prepared": cv.InputSpec(
        (20, 20, 20), orientation="LPS", spacing=(2, 1, 1), intensity="z-score"
    ),
}


def model_of(net, t2, spec=SPECS["as stored"], **more):
    return cv.Model(net, ["a", "b"], spec, "cpu", extra={"t2": str(t2), **more})


@pytest.mark.parametrize("spec", SPECS)
def test_the_prediction_is_that_of_both_scans(pair, spec):
    (t1, _), (t2, _) = pair
    first, second = cv.read_volume(t1), cv.read_volume(t2)
    net = network()
    model = model_of(net, t2, SPECS[spec], age=71)
    x, y = (torch.from_numpy(model.conform(v).channels.copy())[None] for v in (first, second))
    with torch.no_grad():
        expected = net(x, y, torch.tensor([71.0])).softmax(1)[0].numpy()
    np.testing.assert_allclose(model.predict(first), expected, atol=1e-6)
    assert model.extra == {"t2": str(t2), "age": 71.0}


@pytest.mark.parametrize("engine", ["incremental", "full"])
@pytest.mark.parametrize("make", [network, Dictionary])
def test_sensitivity_is_that_of_a_plain_loop_with_the_second_scan_held(pair, make, engine):
    (t1, data), (t2, other) = pair
    net, volume = make().eval(), cv.read_volume(t1)
    plain = net if make is network else net.net
    model = model_of(net, t2, age=71)
    labels = np.ravel_multi_index(
        np.indices(SHAPE) * 2 // np.array(SHAPE)[:, None, None, None], (2,) * 3
    )
    found = cv.sensitivity(
        *(model, volume, cv.Hierarchy.from_levels([labels]), "b"),
        baseline=0, score="logit", engine=engine,
    )  # fmt: skip
    second, age = torch.from_numpy(other)[None, None], torch.tensor([71.0])

    def score(x):
        with torch.no_grad():
            return float(plain(torch.from_numpy(x)[None, None], second, age)[0, 1])

    drops = [score(data) - score(np.where(labels == n, np.float32(0), data)) for n in range(8)]
    np.testing.assert_allclose(found.data, np.array(drops)[labels], atol=1e-5)


def test_gradients_are_those_of_the_first_scan(pair):
    (t1, data), (t2, other) = pair
    net = network()
    model = model_of(net, t2, age=71)
    x = torch.from_numpy(data)[None, None].requires_grad_()
    value = net(x, torch.from_numpy(other)[None, None], torch.tensor([71.0]))[0, 1]
    (expected,) = torch.autograd.grad(value, x)
    found = cv.explain(model, cv.read_volume(t1), "gradient", target="b")
    np.testing.assert_allclose(found.data, expected[0, 0].numpy(), atol=1e-7)
    assert cv.grad_cam(model, cv.read_volume(t1), "b", layer="one").data.any()


def test_scans_that_are_combined_go_through_the_engine_or_not_alike(pair):
    (t1, _), (t2, _) = pair
    volume = cv.read_volume(t1)
    model = cv.Model(
        Added(), input_spec=SPECS["as stored"], device="cpu", extra={"weights": str(t2)}
    )
    tree = cv.build_hierarchy(volume)
    fast, full = (
        cv.sensitivity(model, volume, tree, 0, score="logit", engine=engine).data
        for engine in ("incremental", "full")
    )
    np.testing.assert_allclose(fast, full, atol=1e-5 * np.abs(full).max() + 1e-7)


def test_scans_of_a_table_have_their_own(pair, tmp_path):
    (t1, _), (t2, _) = pair
    other = tmp_path / "other.nii.gz"
    written(other, 2)
    model = model_of(network(), t2, age=71)
    row = model.for_row({"T2": str(other), "Age": "50", "id": "7"})
    assert row.extra == {"t2": str(other), "age": 50.0}
    volume = cv.read_volume(t1)
    expected = model_of(network(), other, age=50).predict(volume)
    np.testing.assert_allclose(row.predict(volume), expected, atol=1e-7)


@pytest.mark.parametrize(
    "other", [{"affine": np.diag([2.0, 1, 1, 1])}, {"shape": (16, 14, 13)}], ids=["affine", "shape"]
)
def test_another_grid_is_refused(pair, tmp_path, other, plain):
    written(tmp_path / "other.nii.gz", 2, **other)
    model = model_of(network(), tmp_path / "other.nii.gz", age=71)
    with pytest.raises(MethodError) as caught:
        model.predict(cv.read_volume(pair[0][0]))
    assert "register and resample it first" in plain(caught.value)


def test_what_cannot_be_is_said(pair, tmp_path, plain):
    (t1, _), (t2, _) = pair
    with pytest.raises(MethodError) as caught:
        model_of(network(), t2, cv.InputSpec(window=(8, 8, 8)), age=71)
    assert "windows" in plain(caught.value)
    with pytest.raises(cv.CnnVisError) as caught:
        model_of(network(), tmp_path / "none.nii.gz", age=71).predict(cv.read_volume(t1))
    plain(caught.value, tmp_path / "none.nii.gz")
    with pytest.raises(MethodError) as caught:
        model_of(network(), t2, age=71).with_extra({"t2": 5})
    assert "is a scan; give its file" in plain(caught.value)


def test_saved_recorded_and_run_on_the_command_line(pair, tmp_path):
    (t1, _), (t2, _) = pair
    (tmp_path / "nets.py").write_text(CODE)
    net, volume = network(), cv.read_volume(t1)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    arch = f"{tmp_path / 'nets.py'}:Pair()"
    model = cv.load_model(
        tmp_path / "net.pt", "cpu", arch, trust=True, extra={"t2": str(t2), "age": 71}
    )
    found = cv.explain(model, volume, "gradient", target=1)
    found.save(tmp_path / "map.nii.gz")
    record = json.loads((tmp_path / "map.json").read_text())
    assert record["model"]["extra"] == {"t2": str(t2), "age": 71.0}
    assert cv.Attribution.load(tmp_path / "map.nii.gz").record.request().method == "gradient"
    assert f"'t2': {str(t2)!r}" in found.record.script()
    command = ["explain", str(t1), "--model", str(tmp_path / "net.pt"), "--arch", arch, "--trust"]
    more = ["--extra", f"t2={t2}", "age=71", "--method", "gradient", "--target", "1"]
    out = tmp_path / "again.nii.gz"
    assert main([*command, *more, "--device", "cpu", "-o", str(out)]) == 0
    np.testing.assert_allclose(cv.read_volume(out).data, found.data, atol=1e-6)
