"""Training from a table to checkpoints: results, going on after a kill, several processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from filelock import FileLock

import napari_cnnvis as cv
from napari_cnnvis.cli import main
from napari_cnnvis.errors import ComputeError, MethodError
from napari_cnnvis.training.recipes import make_recipe
from napari_cnnvis.training.start_networks import NetworkPlan
from napari_cnnvis.training.study import read_study
from napari_cnnvis.training.task import ClassifierTask
from napari_cnnvis.training.train import TrainingPlan, train

from .conftest import read_rows, write_study


def command(table, net, folder, *more):
    return [
        *("train", str(table), "--net", net, "--classes", "NC", "AD", "--trust"),
        *("--recipe", "modern", "--folds", "2", "--repeats", "1", "--epochs", "3"),
        *("-o", str(folder), *more),
    ]


def make_plan(table, net, folder, recipe="modern", **changes):
    study = read_study(table, ["NC", "AD"])
    values = {"folds": 2, "repeats": 1, **changes}
    made = make_recipe(recipe, "", epochs=values.pop("epochs", 2), rate=values.pop("rate", None))
    return TrainingPlan(study, NetworkPlan(net, 2, trust=True), made, folder, **values)


@pytest.fixture
def learned(study_table, net, tmp_path, capsys):
    """A finished run from the command line, and what it said."""
    assert main(command(study_table, net, tmp_path / "runs")) == 0
    return tmp_path / "runs", capsys.readouterr()


def test_the_command_learns_and_leaves_everything(learned, study_table, net):
    folder, said = learned
    assert "24 scans of 24 subjects: 12 NC, 12 AD" in said.out
    assert "left" in said.err or "epoch 3 of 3" in said.err
    for name in ("predictions.csv", "metrics.csv", "roc.png", "roc.svg", "learning_curves.svg"):
        assert (folder / name).stat().st_size > 0
    rows = read_rows(folder / "predictions.csv")
    assert sorted(row["Path"] for row in rows) == sorted(
        str(scan.path) for scan in read_study(study_table, ["NC", "AD"]).scans
    )
    right = np.mean([row["Label"] == row["prediction"] for row in rows])
    assert right > 0.9
    metrics = {row["fold"]: row for row in read_rows(folder / "metrics.csv")}
    of_folds = [float(metrics[f"repeat-1-fold-{n}"]["accuracy"]) for n in (1, 2)]
    assert float(metrics["mean"]["accuracy"]) == pytest.approx(np.mean(of_folds))
    assert float(metrics["standard deviation"]["accuracy"]) == pytest.approx(
        np.std(of_folds, ddof=1)
    )
    fold = folder / "repeat-1-fold-1"
    assert {path.name for path in fold.iterdir() if not path.name.startswith(".")} == {
        "network.safetensors",
        "result.json",
        "predictions.csv",
        "learning_curves.png",
        "learning_curves.svg",
    }
    # the checkpoint says all that is needed, and predicts what the table says
    model = cv.load_model(fold / "network.safetensors", arch=net, trust=True)
    assert model.class_names == ("NC", "AD")
    assert model.training["recipe"]["name"] == "modern"
    row = read_rows(fold / "predictions.csv")[0]
    predicted = model.predict(cv.read_volume(row["Path"]))
    assert predicted[1] == pytest.approx(float(row["p(AD)"]), abs=1e-4)


def test_the_same_command_again_changes_nothing(learned, study_table, net):
    folder, _ = learned
    before = (folder / "repeat-1-fold-1" / "result.json").stat().st_mtime_ns
    assert main(command(study_table, net, folder)) == 0
    assert (folder / "repeat-1-fold-1" / "result.json").stat().st_mtime_ns == before


def test_other_settings_in_the_same_folder_are_refused(learned, study_table, net, capsys):
    folder, _ = learned
    assert main(command(study_table, net, folder, "--seed", "1", "--rate", "0.1")) == 2
    said = capsys.readouterr().err
    assert "other settings" in said
    assert "seed (0 then, 1 now)" in said


def result(folder, fold=1):
    return json.loads((folder / f"repeat-1-fold-{fold}" / "result.json").read_text())


@pytest.fixture
def one_thread():
    """Sums in one order, so that two runs can be equal to the last bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_cancelled_run_goes_on_to_the_same_result(study_table, net, tmp_path, one_thread):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(make_plan(study_table, net, whole, epochs=4))
    cancel = threading.Event()
    cuts = iter([150, 230, 310])
    cut = next(cuts)

    def stop(progress):
        if "fold-1" in progress.what and progress.done > cut:
            cancel.set()

    for following in (*cuts, 10**9):
        cancel.clear()
        assert train(make_plan(study_table, net, parts, epochs=4), stop, cancel) is None
        assert not (parts / "repeat-1-fold-1" / "result.json").exists()
        cut = following
    assert train(make_plan(study_table, net, parts, epochs=4)) is not None
    for fold in (1, 2):
        a, b = result(whole, fold), result(parts, fold)
        assert a["probabilities"] == b["probabilities"]
        assert a["history"] == b["history"]


@pytest.mark.parametrize("recipe", ["modern", "paper"])
def test_a_stopped_run_goes_on_from_the_last_whole_epoch(
    study_table, net, tmp_path, one_thread, monkeypatch, recipe
):
    steps, cancel = [], threading.Event()
    real = ClassifierTask.training_step

    def step(task, batch, index):
        optimiser = task.trainer.optimizers[0]
        known = optimiser.state.get(optimiser.param_groups[0]["params"][0], {})
        memory = [float(value.sum()) for value in known.values() if value is not None]
        rate = optimiser.param_groups[0]["lr"]
        shown = float(batch[0].sum())
        steps.append((task.current_epoch, index, task.trainer.global_step, rate, shown, *memory))
        if cancel_at == (task.current_epoch, index):
            cancel.set()
        return real(task, batch, index)

    monkeypatch.setattr(ClassifierTask, "training_step", step)

    def run(folder):
        steps.clear()
        cancel.clear()
        how = {"epochs": 3, "only": ["repeat-1-fold-1"]}
        train(make_plan(study_table, net, tmp_path / folder, recipe, **how), cancel=cancel)
        return list(steps)

    cancel_at = None
    whole = run("whole")
    cancel_at = 2, 0
    before = run("parts")
    assert cancel.is_set()
    assert [epoch for epoch, *_ in before] == [0] * (len(whole) // 3) + [1] * (len(whole) // 3) + [
        2
    ]
    cancel_at = None
    after = run("parts")
    # nothing of the whole epochs is run again, the scans come in the order that was due, and the
    # optimiser knows what it knew
    third = 2 * len(whole) // 3
    assert after == whole[third:]
    assert after[0][:3] == (2, 0, third)
    assert len(after[0]) > 5
    a, b = result(tmp_path / "whole"), result(tmp_path / "parts")
    assert [epoch["epoch"] for epoch in b["history"]] == [1, 2, 3]
    assert a["history"] == b["history"]
    assert a["probabilities"] == b["probabilities"]


def test_sigterm_in_python_ends_the_process_with_143(study_table, net, tmp_path, monkeypatch):
    """Where nobody else handles it; Lightning alone would end the process with 0."""
    real = ClassifierTask.on_train_epoch_end

    def terminated(task):
        signal.raise_signal(signal.SIGTERM)
        real(task)

    monkeypatch.setattr(ClassifierTask, "on_train_epoch_end", terminated)
    with pytest.raises(SystemExit) as end:
        train(make_plan(study_table, net, tmp_path / "runs", epochs=2))
    assert end.value.code == 143


def test_a_stop_that_also_ends_workers_is_a_stop(study_table, net, tmp_path, monkeypatch):
    cancel = threading.Event()

    def worker_is_killed(*args):
        cancel.set()
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated.")

    monkeypatch.setattr(ClassifierTask, "training_step", worker_is_killed)
    assert train(make_plan(study_table, net, tmp_path / "runs"), cancel=cancel) is None


def run_in_process(arguments, folder):
    code = f"import sys; from napari_cnnvis.cli import main; sys.exit(main({arguments!r}))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=folder)


def test_killed_at_any_moment_it_goes_on(study_table, net, tmp_path, one_thread):
    arguments = command(study_table, net, tmp_path / "killed", "--only", "repeat-1-fold-1")
    process = run_in_process(arguments, tmp_path)
    last = tmp_path / "killed" / "repeat-1-fold-1" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert main(arguments) == 0
    whole = command(study_table, net, tmp_path / "whole", "--only", "repeat-1-fold-1")
    assert main(whole) == 0
    a, b = result(tmp_path / "killed"), result(tmp_path / "whole")
    np.testing.assert_allclose(a["probabilities"], b["probabilities"], atol=1e-6)
    assert a["metrics"] == pytest.approx(b["metrics"], abs=1e-6)


def test_two_processes_share_the_folds(study_table, net, tmp_path, one_thread):
    arguments = command(study_table, net, tmp_path / "shared")
    processes = [run_in_process(arguments, tmp_path) for _ in range(2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    assert main(command(study_table, net, tmp_path / "alone")) == 0
    for fold in (1, 2):
        a, b = (result(tmp_path / name, fold) for name in ("shared", "alone"))
        np.testing.assert_allclose(a["probabilities"], b["probabilities"], atol=1e-6)
    rows = read_rows(tmp_path / "shared" / "metrics.csv")
    assert [row["fold"] for row in rows[:2]] == ["repeat-1-fold-1", "repeat-1-fold-2"]


def test_a_fold_that_another_process_has_is_left_to_it(study_table, net, tmp_path):
    place = tmp_path / "runs" / "repeat-1-fold-1"
    place.mkdir(parents=True)
    with FileLock(place / ".lock"):
        assert train(make_plan(study_table, net, tmp_path / "runs", epochs=1)) is None
    assert not (place / "result.json").exists()
    assert (tmp_path / "runs" / "repeat-1-fold-2" / "result.json").exists()
    assert train(make_plan(study_table, net, tmp_path / "runs", epochs=1)) is not None


def test_a_truncated_checkpoint_does_not_come_from_us(study_table, net, tmp_path, monkeypatch):
    """Killed while a checkpoint is written, the one before is still whole."""
    import torch

    save, written = torch.save, []

    def dies(checkpoint, path, *args, **kwargs):
        if len(written) == 2:
            path.write_bytes(b"half a file")
            raise OSError("no space left")
        written.append(path)
        return save(checkpoint, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", dies)
    plan = make_plan(study_table, net, tmp_path / "runs", "paper", epochs=3)
    with pytest.raises(cv.CnnVisError, match="no space left"):
        train(plan)
    monkeypatch.undo()
    assert not list((tmp_path / "runs" / "repeat-1-fold-1").glob(".last*"))
    assert train(plan) is not None


def test_the_paper_recipe_keeps_the_last_epoch(study_table, net, tmp_path):
    train(make_plan(study_table, net, tmp_path / "runs", "paper", epochs=2))
    one = result(tmp_path / "runs")
    assert one["best epoch"] == 2
    assert [set(epoch) for epoch in one["history"]] == [{"epoch", "training loss"}] * 2


def test_a_loss_that_is_no_number_stops_with_a_sentence(study_table, net, tmp_path):
    with pytest.raises(ComputeError, match=r"(?s)loss is .*learning rate"):
        train(make_plan(study_table, net, tmp_path / "runs", "paper", epochs=40, rate=1e30))


def test_unknown_folds(study_table, net, tmp_path):
    with pytest.raises(MethodError, match="repeat-1-fold-1 to repeat-1-fold-2"):
        train(make_plan(study_table, net, tmp_path / "runs", only=["fold-1"]))


def test_three_classes_and_mixed_precision(tmp_path, net, capsys):
    table = write_study(tmp_path / "study", 18, classes=("a", "b", "c"))
    arguments = ["train", str(table), "--net", net.replace("make()", "make(n_classes=3)")]
    arguments += ["--folds", "2", "--repeats", "1", "--epochs", "1", "--trust", "--mixed"]
    assert main([*arguments, "-o", str(tmp_path / "runs")]) == 0
    assert "AUC" in capsys.readouterr().out
    assert not (tmp_path / "runs" / "roc.png").exists()


def test_bad_rows_are_said_on_the_command_line(study_table, net, tmp_path, capsys):
    study_table.write_text(study_table.read_text().replace("scan-3.nii.gz", "gone.nii.gz"))
    assert main(command(study_table, net, tmp_path / "runs")) == 2
    assert "row 5: missing file" in capsys.readouterr().err


def test_a_device_that_is_not_there(study_table, net, tmp_path, capsys):
    arguments = command(study_table, net, tmp_path / "runs", "--accelerator", "abacus")
    assert main(arguments) == 2
    assert "--accelerator" in capsys.readouterr().err


@pytest.mark.slow
def test_two_devices_share_a_fold(study_table, net, tmp_path):
    """Two processes of one CPU stand for two GPUs."""
    arguments = command(
        study_table, net, tmp_path / "two", "--accelerator", "cpu", "--devices", "2"
    )
    code = "import sys; from napari_cnnvis.cli import main; sys.exit(main(sys.argv[1:]))"
    script = tmp_path / "run.py"
    script.write_text(code)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = [sys.executable, str(script), *arguments]
    subprocess.run(run, env=environment, cwd=tmp_path, check=True, timeout=300)
    rows = read_rows(tmp_path / "two" / "metrics.csv")
    assert float(rows[-2]["AUC"]) > 0.9
    assert len(read_rows(tmp_path / "two" / "predictions.csv")) == 24


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("--intensity", "mean, clip 0 1.5"),
        ("--input-steps", "Orientation('LPS'), ScaleIntensity(minv=-1), Resize((6, 6, 7))"),
    ],
)
def test_the_preparation_is_in_the_checkpoint_and_predicts_what_the_table_says(
    study_table, net, tmp_path, option, given
):
    more = ("--epochs", "1", "--only", "repeat-1-fold-1", option, given)
    assert main([*command(study_table, net, tmp_path / "runs"), *more]) == 0
    fold = tmp_path / "runs" / "repeat-1-fold-1"
    model = cv.load_model(fold / "network.safetensors", arch=net, trust=True)
    spec = model.input_spec
    if option == "--intensity":
        assert spec.intensity == given
    else:
        assert spec == cv.InputSpec(steps=given)
    for row in read_rows(fold / "predictions.csv")[:3]:
        predicted = model.predict(cv.read_volume(row["Path"]))
        np.testing.assert_allclose(predicted[1], float(row["p(AD)"]), atol=1e-4)
