"""Many scans in one run: what fails does not stop the rest, and nothing is computed twice."""

import threading

import numpy as np
import pytest

import napari_cnnvis as cv
from napari_cnnvis.cohort import run
from napari_cnnvis.cohort.entries import MISSING
from napari_cnnvis.cohort.finding import find_scans
from napari_cnnvis.cohort.keys import ResultKeys, scan_hash
from napari_cnnvis.cohort.run import read_scan, run_on_all
from napari_cnnvis.cohort.store import ResultStore
from napari_cnnvis.errors import CnnVisError, MethodError
from napari_cnnvis.explain.request import ExplainRequest

REQUEST = ExplainRequest("grad-cam", "AD", layer="0", relu=False)


@pytest.fixture
def entries(tmp_path, write_scan):
    for number in range(3):
        write_scan(tmp_path / "scans" / f"s{number}.nii.gz", number)
    return find_scans(tmp_path / "scans")


def last_of_each(outcomes):
    return list({o.index: o for o in outcomes}.values())


def kept_map(store, model, entry, request, orientation=None):
    key = ResultKeys(model).attribution(scan_hash(entry.path), request, orientation)
    return store.attribution(key, read_scan(entry, orientation))


def test_results_are_those_of_the_single_calls(model, entries, store):
    outcomes = list(run_on_all(model, entries, REQUEST, store))
    assert [o.index for o in outcomes] == [0, 1, 2] * 3  # looked up, predicted, explained
    for entry, outcome in zip(entries, last_of_each(outcomes), strict=True):
        volume = cv.read_volume(entry.path)
        np.testing.assert_array_equal(outcome.prediction.values, model.predict(volume))
        expected = cv.grad_cam(model, volume, "AD", layer="0", relu=False)
        np.testing.assert_array_equal(outcome.attribution.data, expected.data)
        assert outcome.mapped
        assert not outcome.problem
        kept = kept_map(store, model, entry, REQUEST)
        assert kept.data.tobytes() == expected.data.tobytes()
        assert kept.notes == expected.notes
        assert kept.name == expected.name
        assert kept.provenance["class_name"] == "AD"
        np.testing.assert_array_equal(kept.affine, volume.affine)


def test_maps_lie_on_the_axes_that_are_asked_for(model, entries, store):
    (*_, outcome) = run_on_all(model, entries[:1], REQUEST, store, orientation="SAR")
    plain = cv.grad_cam(model, cv.read_volume(entries[0].path), "AD", layer="0", relu=False)
    turned = cv.Volume(plain.data, plain.affine).reoriented("SAR")
    np.testing.assert_allclose(outcome.attribution.data, turned.data, atol=1e-7)
    np.testing.assert_array_equal(outcome.attribution.affine, turned.affine)
    assert kept_map(store, model, entries[0], REQUEST) is None
    kept = kept_map(store, model, entries[0], REQUEST, "SAR")
    np.testing.assert_array_equal(kept.data, outcome.attribution.data)


def test_what_is_kept_is_not_computed_again(model, entries, store, monkeypatch):
    first = last_of_each(run_on_all(model, entries, REQUEST, store))
    monkeypatch.setattr("napari_cnnvis.cohort.run.read_volume", None)
    renamed = entries[1].path.with_name("other.nii.gz")
    entries[1].path.rename(renamed)
    entries[1] = find_scans(renamed)[0]
    again = list(run_on_all(model, entries, REQUEST, store))
    assert [o.index for o in again] == [0, 1, 2]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.prediction.values, b.prediction.values)
        assert b.mapped


def test_without_a_request_scans_are_only_predicted(model, entries, store):
    outcomes = list(run_on_all(model, entries, None, store))
    assert len(outcomes) == 6
    assert not any(o.mapped for o in outcomes)
    assert [o.prediction is None for o in outcomes] == [True] * 3 + [False] * 3


def test_bad_scans_have_a_problem_and_the_others_go_on(model, entries, store, plain, tmp_path):
    entries[0].path.write_bytes(entries[0].path.read_bytes()[:100])
    (tmp_path / "m.csv").write_text("Path\n" + "\n".join(f"scans/s{i}.nii.gz" for i in range(4)))
    entries = find_scans(tmp_path / "m.csv")
    outcomes = last_of_each(run_on_all(model, entries, REQUEST, store))
    plain(CnnVisError(outcomes[0].problem), "s0.nii.gz")
    assert [bool(o.problem) for o in outcomes] == [True, False, False, True]
    assert outcomes[3].problem == MISSING
    assert [o.mapped for o in outcomes] == [False, True, True, False]


UNEXPECTED = [
    RuntimeError("one\ntwo"),
    KeyError("axes"),
    MemoryError(),
    OSError(5, "Input/output error"),
    ZeroDivisionError("x" * 1000),
]


@pytest.mark.parametrize("error", UNEXPECTED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("stage", ["scan_hash", "read_volume", "explain"])
def test_an_unexpected_error_in_one_scan_does_not_stop_the_rest(
    model, entries, store, monkeypatch, plain, caplog, stage, error
):
    real = getattr(run, stage)

    def stumbles(given, *args, **kwargs):
        scan = args[0] if stage == "explain" else given
        if "s1" in str(getattr(scan, "name", scan)):
            raise error
        return real(given, *args, **kwargs)

    monkeypatch.setattr(run, stage, stumbles)
    outcomes = last_of_each(run_on_all(model, entries, REQUEST, store))
    assert [o.mapped for o in outcomes] == [True, False, True]
    assert [bool(o.problem) for o in outcomes] == [False, True, False]
    assert (outcomes[1].prediction is not None) == (stage == "explain")
    said = outcomes[1].problem
    assert ("Memory ran out" if isinstance(error, MemoryError) else "unexpected") in said
    assert "\n" not in said
    assert len(said) < 300
    assert said.endswith(".")
    (logged,) = (record for record in caplog.records if record.name == "napari_cnnvis")
    assert "s1" in logged.getMessage()
    assert logged.exc_info[1] is error


@pytest.mark.parametrize("after", range(9))
def test_what_is_done_when_it_is_cancelled_is_kept(model, entries, store, after):
    cancel = threading.Event()
    outcomes = []
    for outcome in run_on_all(model, entries, REQUEST, store, cancel=cancel):
        outcomes.append(outcome)
        if len(outcomes) == after + 1:
            cancel.set()
    assert len(outcomes) == after + 1
    kept = list(run_on_all(model, entries, REQUEST, store))[:3]
    assert sum(o.prediction is not None for o in kept) == min(max(after - 2, 0), 3)
    assert sum(o.mapped for o in kept) == max(after - 5, 0)


def test_a_map_that_is_cancelled_halfway_is_not_kept(model, entries, store):
    cancel = threading.Event()
    request = ExplainRequest("box", 1, size=3, stride=1, baseline=0)
    began = []

    def stop(progress):
        if progress.what.startswith("Box"):
            began.append(progress)
            threading.Timer(0.02, cancel.set).start()

    outcomes = last_of_each(run_on_all(model, entries, request, store, stop, cancel))
    assert began
    assert all(o.prediction is not None for o in outcomes)
    for entry, outcome in zip(entries, outcomes, strict=True):
        kept = kept_map(store, model, entry, request)
        assert (kept is not None) == outcome.mapped
        assert kept is None or not kept.partial


def test_progress_counts_what_is_to_be_done_in_each_stage(model, entries, store):
    said = []
    list(run_on_all(model, entries[:1], None, store))
    list(run_on_all(model, entries, REQUEST, store, said.append))
    steps = [(p.what, p.done, p.total) for p in said if p.what != "Looking up results"]
    assert steps == [
        ("Predicting: s1", 0, 2),
        ("Predicting: s2", 1, 2),
        ("Predicting", 2, 2),
        ("Grad-CAM: s0", 0, 3),
        ("Grad-CAM: s1", 1, 3),
        ("Grad-CAM: s2", 2, 3),
        ("Grad-CAM", 3, 3),
    ]


@pytest.mark.parametrize("method", ["cam", "hirescam", "box", "sensitivity"])
def test_every_kind_of_method_is_kept(fitting, model, tmp_path, write_scan, store, method):
    write_scan(tmp_path / "a.nii", shape=(20, 20, 20))
    entries = find_scans(tmp_path / "a.nii")
    request = fitting(method, 1, layer="0", size=9, stride=9, finest=8)
    (*_, outcome) = run_on_all(model, entries, request, store)
    assert outcome.problem == ""
    kept = kept_map(store, model, entries[0], request)
    np.testing.assert_array_equal(kept.data, outcome.attribution.data)
    assert kept.regions is None


def test_a_wrong_request_is_refused_before_anything_runs(model, entries, store):
    with pytest.raises(MethodError):
        next(run_on_all(model, entries, ExplainRequest("cam", "none"), store))
    assert store.size == 0


def test_a_store_that_cannot_be_written_stops_the_run(model, entries, tmp_path, plain):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CnnVisError) as caught:
        list(run_on_all(model, entries, None, ResultStore(tmp_path / "file")))
    plain(caught.value, tmp_path / "file")
