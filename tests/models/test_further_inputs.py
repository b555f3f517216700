"""Networks that take more than the scan, or give several outputs: by Python, files, records, tables."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.cli import main
from napari_cnnvis.cohort.entries import ScanEntry
from napari_cnnvis.cohort.finding import find_scans
from napari_cnnvis.cohort.keys import ResultKeys
from napari_cnnvis.cohort.run import run_on_all
from napari_cnnvis.cohort.store import ResultStore
from napari_cnnvis.errors import CheckpointError, CnnVisError, MethodError
from napari_cnnvis.explain.record import Record
from napari_cnnvis.models.further_inputs import parsed_extra, written_extra

CODE = '''
import torch
from torch import nn

class AgeNet(nn.Module):
    """Scan and age to features and scores."""

    def __init__(self, width=4):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.out = nn.Conv3d(1, width, 3, padding=1), nn.Linear(width + 1, 2)

    def forward(self, x, age):
        features = torch.relu(self.conv(x)).mean((2, 3, 4))
        scores = self.out(torch.cat([features, age.reshape(-1, 1) / 100], 1))
        return features, scores
'''
SCAN = cv.Volume(np.random.default_rng(0).random((12, 13, 14)).astype(np.float32), name="scan")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("age")
    (folder / "age_net.py").write_text(CODE)
    scope = {}
    exec(CODE, scope)
    torch.save(scope["AgeNet"]().state_dict(), folder / "net.pt")
    cv.write_volume(SCAN, folder / "scan.nii.gz")
    return folder


@pytest.fixture(scope="module")
def network():
    scope = {}
    exec(CODE, scope)
    return scope["AgeNet"]()


def by_hand(network, age):
    x = torch.from_numpy(SCAN.data / SCAN.data.max())[None, None]
    with torch.no_grad():
        return network(x, torch.tensor([age]))[1].softmax(1)[0].numpy()


def arch_of(folder):
    return f"{folder / 'age_net.py'}:AgeNet(width=4)"


def loaded(folder, **how):
    given = {"arch": arch_of(folder), "trust": True, "device": "cpu", "scores": "1"}
    return cv.load_model(folder / "net.pt", **{**given, **how})


def test_what_is_given_is_what_the_network_gets(network):
    for age in (20.0, 80.0):
        model = cv.Model(network, ["NC", "AD"], device="cpu", scores="1", extra={"age": age})
        np.testing.assert_allclose(model.predict(SCAN), by_hand(network, age), rtol=1e-5)
        found = cv.box_sensitivity(model, SCAN, "AD", size=5, stride=4, inside="everywhere")
        full = cv.box_sensitivity(
            model, SCAN, "AD", size=5, stride=4, inside="everywhere", engine="full"
        )
        np.testing.assert_allclose(found.data, full.data, atol=1e-6)
    old = model.with_extra({"age": 50})
    assert (old.extra, model.extra) == ({"age": 50.0}, {"age": 80.0})
    np.testing.assert_allclose(old.predict(SCAN), by_hand(network, 50.0), rtol=1e-5)
    with pytest.raises(MethodError, match=r"takes 1 number\(s\), not 2"):
        model.with_extra({"age": [1, 2]})


def test_what_is_missing_or_unknown_is_named(network, plain):
    with pytest.raises(CnnVisError) as caught:
        cv.Model(network, device="cpu")
    text = plain(caught.value, "needs more than the scan")
    assert "--extra age=0" in text
    with pytest.raises(MethodError, match=r"no argument 'sex'; .* takes age"):
        cv.Model(network, device="cpu", extra={"sex": 1})
    with pytest.raises(MethodError, match="has to be a number"):
        cv.Model(network, device="cpu", extra={"age": "old"})


@pytest.mark.parametrize(
    "text", ["", "age=71", "age=71, sex=1", "volumes=3.5 2.25 -1e-05, age=0.1"]
)
def test_further_inputs_as_text(text):
    assert written_extra(parsed_extra(text)) == text


@pytest.mark.parametrize("text", ["age", "age=", "=3", "age=old", "the age=3", "age=3; sex=1"])
def test_what_is_not_such_a_text_is_refused(text):
    with pytest.raises(MethodError, match="write them as age=71, sex=1"):
        parsed_extra(text)


def test_a_saved_model_brings_them_along(folder, tmp_path):
    model = loaded(folder, extra={"age": 71})
    path = cv.save_model(model, tmp_path / "net.safetensors")
    again = cv.load_model(path, device="cpu", trust=True)
    assert (again.extra, again.scores) == ({"age": 71.0}, "1")
    np.testing.assert_array_equal(again.predict(SCAN), model.predict(SCAN))
    older = cv.load_model(path, device="cpu", trust=True, extra={"age": 20})
    assert np.abs(older.predict(SCAN) - model.predict(SCAN)).max() > 1e-3


def test_a_sidecar_can_say_them(folder, tmp_path):
    for name in ("net.pt", "age_net.py"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    header = {"architecture": arch_of(tmp_path), "extra": {"age": 71}, "scores": "1"}
    (tmp_path / "net.json").write_text(json.dumps(header))
    assert cv.load_model(tmp_path / "net.pt", device="cpu", trust=True).extra == {"age": 71.0}
    (tmp_path / "net.json").write_text(json.dumps({**header, "extra": [71]}))
    with pytest.raises(CheckpointError, match="header of"):
        cv.load_model(tmp_path / "net.pt", device="cpu", trust=True)


def test_a_record_and_its_script_say_them(folder):
    model = loaded(folder, extra={"age": 71}, class_names=["NC", "AD"])
    found = cv.grad_cam(model, SCAN, "AD", layer="conv")
    kept = json.loads(json.dumps(found.provenance))
    record = Record.read(kept)
    assert record.values["model"]["extra"] == {"age": 71.0}
    assert record.values["model"]["scores"] == "1"
    script = record.script("map.nii.gz")
    assert "extra={'age': 71.0}" in script
    assert "scores='1'" in script
    kept["model"]["extra"] = {"age": "old"}
    with pytest.raises(MethodError):
        Record.read(kept)


def explained(folder, tmp_path, *options):
    return main(
        [
            *("explain", str(folder / "scan.nii.gz"), "--model", str(folder / "net.pt")),
            *("--arch", arch_of(folder), "--trust", "--device", "cpu", "--classes", "NC", "AD"),
            *("--method", "grad-cam", "--layer", "conv", "--target", "AD"),
            *("-o", str(tmp_path / "map.nii.gz"), "--overwrite", *options),
        ]
    )


def test_on_the_command_line(folder, tmp_path, network, capsys):
    assert explained(folder, tmp_path, "--extra", "age=71", "--scores", "1") == 0
    record = json.loads((tmp_path / "map.json").read_text())
    assert record["model"]["extra"] == {"age": 71.0}
    out = capsys.readouterr().out
    assert f"AD {by_hand(network, 71.0)[1]:.1%}" in out
    assert explained(folder, tmp_path, "--scores", "1") == 2
    assert "--extra age=0" in capsys.readouterr().err
    assert explained(folder, tmp_path, "--scores", "1", "--extra", "age") == 2
    assert "write them as age=71" in capsys.readouterr().err
    assert explained(folder, tmp_path, "--extra", "age=71", "--scores", "logits") == 2
    assert "no scores called 'logits'" in capsys.readouterr().err


@pytest.fixture
def table(folder, tmp_path):
    rows = ["Path,Label,Age", f"{folder / 'scan.nii.gz'},NC,20", f"{folder / 'scan.nii.gz'},AD,80"]
    (tmp_path / "scans.csv").write_text("\n".join([*rows, f"{folder / 'scan.nii.gz'},AD,unknown"]))
    return tmp_path / "scans.csv"


def test_columns_of_a_table_are_each_scans_own(folder, table, network, tmp_path):
    model = loaded(folder, extra={"age": 50}, class_names=["NC", "AD"])
    entries, store = find_scans(table), ResultStore(tmp_path / "results")
    request = cv.ExplainRequest("grad-cam", "AD", layer="conv", relu=False)
    last = {o.index: o for o in run_on_all(model, entries, request, store)}
    for index, age in ((0, 20.0), (1, 80.0)):
        values = last[index].prediction.values
        np.testing.assert_allclose(values, by_hand(network, age), rtol=1e-5)
        record = last[index].attribution.provenance
        assert record["model"]["extra"] == {"age": age}
    assert "the network needs a number there" in last[2].problem
    again = [o for o in run_on_all(model, entries[:2], request, store)]
    assert len(again) == 2  # both were kept, each under its own key
    assert not np.allclose(again[0].prediction.values, again[1].prediction.values)


def test_keys_tell_models_of_other_inputs_apart(folder):
    keys = {
        (age, scores): ResultKeys(loaded(folder, extra={"age": age}, scores=scores)).prediction("x")
        for age, scores in ((20, "1"), (80, "1"), (20, "0"))
    }
    assert len(set(keys.values())) == 3
    of_row = ResultKeys(loaded(folder, extra={"age": 20})).prediction("x", (("age", "80"),))
    assert of_row not in keys.values()


def test_a_network_without_them_has_the_same_keys_for_any_table():
    net = nn.Sequential(nn.Conv3d(1, 2, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    keys = ResultKeys(cv.Model(net, device="cpu"))
    entry = ScanEntry(None, "scan", columns=(("age", "71"),))
    assert keys.prediction("x", entry.columns) == keys.prediction("x")


class Pair(nn.Module):
    """Takes a dictionary with the scan and a table of values."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.out = nn.Conv3d(1, 4, 3, padding=1), nn.Linear(7, 2)

    def forward(self, batch):
        features = torch.relu(self.conv(batch["image"])).mean((2, 3, 4))
        return {"logits": self.out(torch.cat([features, batch["volumes"]], 1)), "f": features}


def test_dictionaries_with_tables():
    model = cv.Model(Pair(), device="cpu", extra={"volumes": [3.5, 2.25, 1.0]})
    assert any("takes a dictionary" in note for note in model.notes)
    x = torch.from_numpy(SCAN.data / SCAN.data.max())[None, None]
    with torch.no_grad():
        batch = {"image": x, "volumes": torch.tensor([[3.5, 2.25, 1.0]])}
        true = Pair()(batch)["logits"].softmax(1)[0].numpy()
    np.testing.assert_allclose(model.predict(SCAN), true, rtol=1e-5)
