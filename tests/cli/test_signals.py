"""Ctrl+C ends every command with 130, SIGTERM with 143, and each says what there is of its results."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

import napari_cnnvis as cv
from napari_cnnvis.cli import main
from napari_cnnvis.models.networks.vox import VoxResNetGAP

SIGNALS = [(signal.SIGINT, 130, "Ctrl+C"), (signal.SIGTERM, 143, "SIGTERM")]
both = pytest.mark.parametrize(("number", "status", "name"), SIGNALS)
NET = """
from torch import nn
import os, signal

class Net(nn.Sequential):
    def forward(self, x):
        stop = {flag!r}
        if self.training and os.path.exists(stop) and os.path.exists({last!r}):
            os.unlink(stop)
            signal.raise_signal(signal.SIGTERM)
        return super().forward(x)

def make():
    return Net(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 2))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A scan, its truth and its map, a table of each kind, and a network."""
    data = tmp_path_factory.mktemp("signals")
    grid = np.indices((16, 14, 12)) - np.array([8, 7, 6])[:, None, None, None]
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    rows = ["Path,Label,Truth"]
    for number in range(8):
        noise = np.random.default_rng(number).uniform(0.5, 1, grid.shape[1:])
        scan = np.where((grid**2).sum(0) < 30, noise, 0)
        cv.write_volume(cv.Volume(scan, affine), data / f"scan{number}.nii.gz")
        rows.append(f"scan{number}.nii.gz,{'ab'[number % 2]},{'truth.nii.gz' * (number < 2)}")
    cv.write_volume(cv.Volume((grid**2).sum(0) < 9, affine), data / "truth.nii.gz")
    (data / "table.csv").write_text("\n".join(rows))
    torch.manual_seed(0)
    net = data / "net.safetensors"
    cv.save_model(VoxResNetGAP(), net, ["patient", "control"], cv.InputSpec())
    volume = cv.read_volume(data / "scan0.nii.gz")
    cv.cam(cv.load_model(net, device="cpu"), volume, 0).save(data / "map.nii.gz")
    return data


@pytest.fixture
def command(data, tmp_path):
    """The arguments of a command that writes into a folder of its own."""
    scan, out = str(data / "scan0.nii.gz"), tmp_path / "out"
    out.mkdir()
    net = ["--model", str(data / "net.safetensors"), "--device", "cpu"]
    boxes = ["--size", "3", "--stride", "2"]
    arguments = {
        "explain": [scan, *net, "--method", "box", *boxes, "-o", str(out / "map.nii.gz")],
        "supervoxels": [scan, "-o", str(out / "tree.npz")],
        "figure": [scan, str(data / "map.nii.gz"), "-o", str(out / "plate.png"), "--dpi", "60"],
        "train": [str(data / "table.csv"), "--net", f"{net_file(tmp_path)}:make()", "--trust",
                  "--folds", "2", "--repeats", "1", "--epochs", "3", "-o", str(out / "runs")],
        "evaluate": [str(data / "table.csv"), *net, "--target", "0", "--methods", "cam", "box",
                     *boxes, "-o", str(out / "scores")],
        "trust": [scan, *net, "--method", "box", *boxes, "--tests", "edges", "-o", str(out / "t")],
        "info": [str(data / "net.safetensors"), "--scan", scan],
    }  # fmt: skip
    return lambda name: [name, *arguments[name]]


def net_file(folder):
    file = folder / "stopped_net.py"
    flag, last = str(folder / "stop"), str(folder / "out/runs/repeat-1-fold-1/last.ckpt")
    file.write_text(NET.format(flag=flag, last=last))
    return file


COMMANDS = ("explain", "supervoxels", "figure", "train", "evaluate", "trust", "info")


def files_in(folder):
    return {p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file()}


def said(text, name):
    """The sentence of a command that was stopped."""
    (line,) = (line for line in text.splitlines() if line.startswith("napari-cnnvis:"))
    match = re.fullmatch(rf"napari-cnnvis: stopped by {re.escape(name)}; (.*)\.", line)
    assert match, text
    assert "Traceback" not in text
    return match[1]


def signalled_by(monkeypatch, owner, attribute, number, times=1):
    """Send signals to this process when a function is first called."""
    real, left = getattr(owner, attribute), [times]

    def function(*args, **kwargs):
        while left[0]:
            left[0] -= 1
            signal.raise_signal(number)
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, attribute, function)


def progress_that(monkeypatch, module, number, times=1):
    """Send signals at the first progress of a command."""
    left = [times]

    def progress():
        def report(progress):
            while left[0]:
                left[0] -= 1
                signal.raise_signal(number)

        return report

    name = "progress_with_time_left" if module.__name__.endswith("train") else "progress"
    monkeypatch.setattr(module, name, progress)


@both
@pytest.mark.parametrize("name_of_command", COMMANDS)
def test_stopped_while_files_are_read(
    command, name_of_command, number, status, name, monkeypatch, capsys, tmp_path
):
    before = [signal.getsignal(n) for n, *_ in SIGNALS]
    signalled_by(monkeypatch, nib, "load", number)
    assert main(command(name_of_command)) == status
    kept = said(capsys.readouterr().err, name)
    if name_of_command == "train":
        assert kept == "the same command goes on from the last whole epoch"
    else:
        assert kept == "nothing was written"
        assert files_in(tmp_path / "out") == set()
    assert [signal.getsignal(n) for n, *_ in SIGNALS] == before


@both
@pytest.mark.parametrize(
    ("name_of_command", "kept", "files"),
    [
        ("explain", "the map so far, marked partial, is in {out}/map.nii.gz", {"map.nii.gz", "map.json"}),
        ("supervoxels", "nothing was written (Building the supervoxels was cancelled)", set()),
        ("evaluate", "what was scored is in {out}/scores; the same command goes on", {"scores/scores.csv"}),
        ("trust", "the tests so far are in {out}/t", {"t/trust.json", "t/trust.png", "t/trust.svg"}),
    ],
)  # fmt: skip
def test_stopped_at_work_it_keeps_what_it_has(
    command, name_of_command, kept, files, number, status, name, monkeypatch, capsys, tmp_path
):
    module = sys.modules[f"napari_cnnvis.cli.{name_of_command}"]
    progress_that(monkeypatch, module, number)
    assert main(command(name_of_command)) == status
    out = tmp_path / "out"
    assert said(capsys.readouterr().err, name) == kept.format(out=out)
    there = files_in(out)
    assert files <= there
    assert not [file for file in there if Path(file).name.startswith(".")]
    for file in there:
        if file.endswith(("map.json", "trust.json")):
            assert json.loads((out / file).read_text())["partial"] is True


@both
def test_training_goes_on_where_it_was_stopped(
    command, number, status, name, monkeypatch, capsys, tmp_path
):
    from napari_cnnvis.training.task import ClassifierTask

    signalled_by(monkeypatch, ClassifierTask, "on_train_epoch_end", number)
    assert main(command("train")) == status
    assert "the same command goes on" in said(capsys.readouterr().err, name)
    assert not list((tmp_path / "out").rglob(".last*"))
    assert main(command("train")) == 0
    assert "checkpoints" in capsys.readouterr().out


def test_evaluate_goes_on_where_it_was_stopped(command, monkeypatch, tmp_path):
    from napari_cnnvis.evaluate.benchmark import figure as benchmark_figure
    from napari_cnnvis.evaluate.benchmark.rows import RowStore

    monkeypatch.setattr(benchmark_figure, "write_figures", lambda *args: [])
    kept, real = [], RowStore.put

    def put(self, key, rows):
        kept.append(key)
        if len(kept) == 1:
            signal.raise_signal(signal.SIGTERM)
        real(self, key, rows)

    monkeypatch.setattr(RowStore, "put", put)
    assert main(command("evaluate")) == 143
    assert files_in(tmp_path / "out/scores/rows") == {f"{kept[0]}.json"}
    assert main(command("evaluate")) == 0
    assert len(kept) == len(set(kept)) == 4  # two methods on two scans, none of them twice


@both
@pytest.mark.parametrize(
    "name_of_command", ["explain", "supervoxels", "evaluate", "trust", "train"]
)
def test_a_second_signal_stops_at_once(
    command, name_of_command, number, status, name, monkeypatch, capsys, tmp_path
):
    module = sys.modules[f"napari_cnnvis.cli.{name_of_command}"]
    progress_that(monkeypatch, module, number, times=2)
    assert main(command(name_of_command)) == status
    assert said(capsys.readouterr().err, name)
    files = files_in(tmp_path / "out")
    assert not [f for f in files if not f.startswith(("runs/", "scores/scores.csv"))]


@both
@pytest.mark.parametrize("name_of_command", ["explain", "supervoxels", "trust"])
def test_what_is_being_written_is_written_to_its_end(
    command, name_of_command, number, status, name, monkeypatch, capsys, tmp_path
):
    signalled_by(monkeypatch, os, "replace", number)
    assert main(command(name_of_command)) == status
    kept = said(capsys.readouterr().err, name)
    assert "so far" not in kept
    assert str(tmp_path / "out") in kept
    files = files_in(tmp_path / "out")
    expected = {
        "explain": {"map.nii.gz", "map.json"},
        "supervoxels": {"tree.npz"},
        "trust": {"t/trust.json", "t/trust.png", "t/trust.svg", "t/curves.csv"},
    }
    assert files == expected[name_of_command]


@both
def test_a_figure_that_is_stopped_leaves_no_half_file(
    command, number, status, name, monkeypatch, capsys, tmp_path
):
    signalled_by(monkeypatch, Image.Image, "save", number)
    assert main(command("figure")) == status
    assert said(capsys.readouterr().err, name) == "nothing was written"
    assert files_in(tmp_path / "out") == set()


def test_a_stop_that_was_swallowed_on_the_way_is_not_lost(command, monkeypatch, capsys):
    class Swallows:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    def load(*args, **kwargs):
        Swallows()
        return real(*args, **kwargs)

    real = nib.load
    monkeypatch.setattr(nib, "load", load)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    assert main(command("info")) == 143
    assert said(capsys.readouterr().err, "SIGTERM") == "the command had finished"


def test_commands_run_in_other_threads_too(command):
    """Where Python lets nobody set signals."""
    status = []
    for name in ("supervoxels", "info"):
        thread = threading.Thread(target=lambda name=name: status.append(main(command(name))))
        thread.start()
        thread.join()
    assert status == [0, 0]


# --- real processes ------------------------------------------------------------------------


def run(arguments, *python, **how):
    command = [sys.executable, *python, "-m", "napari_cnnvis.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, **how)


@both
def test_stopped_while_modules_are_loaded(command, number, status, name):
    with run(command("info"), "-X", "importtime", stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "numpy" in line:
                process.send_signal(number)
                break
        rest = process.stderr.read()
    assert process.returncode == status, rest
    assert said(rest, name) == "nothing was written"


def test_stopped_while_it_scores(command, tmp_path):
    """On a terminal, where progress is shown."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    long = ["--stride", "1", "--baseline", "blur", "border", "noise", "0"]
    with run([*command("explain"), *long], stderr=theirs) as process:
        os.close(theirs)
        text = b""
        while b" of " not in text:
            text += os.read(ours, 1000)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
        text = os.read(ours, 100_000).decode()
    os.close(ours)
    text = text.replace("\r\n", "\n").replace("\r\033[K", "\n")
    assert "the map so far, marked partial" in said(text, "Ctrl+C")
    assert json.loads((tmp_path / "out/map.json").read_text())["partial"] is True


@both
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have a display")
def test_a_demo_below_a_virtual_display(number, status, name, monkeypatch, tmp_path):
    """xvfb-run itself does not hand on signals; here it is a script that starts a sleeper."""
    script = tmp_path / "xvfb-run"
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text(f"open({str(tmp_path / 'began')!r}, 'w'); import time; time.sleep(300)")
    script.write_text(
        f"#!/bin/sh\n{sys.executable} {sleeper}\nS=$?\ntouch {tmp_path}/tidied\nexit $S\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    real = subprocess.Popen.wait

    def wait(self, *args, **kwargs):
        monkeypatch.setattr(subprocess.Popen, "wait", real)
        while not (tmp_path / "began").exists():
            pass
        signal.raise_signal(number)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    with pytest.raises(SystemExit) as end:
        main(["demo", "--screenshot", str(tmp_path / "out.png")])
    assert end.value.code == status
    assert (tmp_path / "tidied").exists()


def test_training_ended_by_the_scheduler(command, tmp_path):
    (tmp_path / "stop").write_text("")
    with run(command("train"), stderr=subprocess.PIPE, text=True) as process:
        text = process.stderr.read()
    assert process.returncode == 143
    assert said(text, "SIGTERM") == "the same command goes on from the last whole epoch"
    last = torch.load(tmp_path / "out/runs/repeat-1-fold-1/last.ckpt", weights_only=True)
    assert last["epoch"] == 0
