"""Pickled code in checkpoints: nothing of it is run."""

import builtins
import os
import pickle
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.checkpoint import load_model

from .small_files import Call, Net, npz, refusal, saved, state, written

CALLS = {
    "os.system": lambda c: Call(os.system, f"touch {c}"),
    "os.mkdir": lambda c: Call(os.mkdir, c),
    "subprocess.Popen": lambda c: Call(subprocess.Popen, ["touch", c]),
    "eval": lambda c: Call(builtins.eval, f"open({c!r}, 'w')"),
    "exec": lambda c: Call(builtins.exec, f"open({c!r}, 'w')"),
    "open": lambda c: Call(builtins.open, c, "w"),
    "getattr": lambda c: Call(getattr, Call(__import__, "os"), "mkdir"),
    "Path.touch": lambda c: Call(Path.touch, Path(c)),
    "numpy.save": lambda c: Call(np.save, c, 3),
    "torch.save": lambda c: Call(torch.save, 3, c),
    "torch.load": lambda c: Call(torch.load, c),
}


PLACES = {
    "alone": lambda call: call,
    "beside the weights": lambda call: {"state_dict": state(), "extra": call},
    "among the weights": lambda call: {**state(), "extra": call},
    "as the weights": lambda call: {"state_dict": call},
    "in Lightning's settings": lambda call: {
        "pytorch-lightning_version": "2.4",
        "state_dict": state(),
        "hyper_parameters": {"lr": call},
    },
    "as a name": lambda call: {"state_dict": state(), "more": [(call, 1)]},
}


HOSTILE = ("os.system", "os.mkdir", "subprocess.Popen", "eval", "exec", "open", "getattr")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("how", ["torch", "old torch", "pickle"])
def test_code_is_not_run(tmp_path, plain, name, place, how):
    canary = tmp_path / "canary"
    content = PLACES[place](CALLS[name](str(canary)))
    path = tmp_path / "net.ckpt"
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        saved(content, path, _use_new_zipfile_serialization=how == "torch")
    try:
        load_model(path, "cpu", arch=Net())
    except CheckpointError as exc:
        plain(exc, path)
    else:  # beside weights that are read, what is only strange is left out
        assert name not in HOSTILE
    time.sleep(0.01 * (name == "subprocess.Popen"))
    assert not canary.exists()


def test_code_that_would_run_is_named(tmp_path, plain):
    content = {"state_dict": state(), "extra": Call(os.system, "true")}
    text = refusal(plain, saved(content, tmp_path / "net.pt"), arch=Net())
    assert "would run 'posix.system' on loading" in text
    assert "nothing of it was run" in text


def raw_pickle(*operations):
    return b"".join(operations)


OPERATIONS = {
    "protocol 0": b"cos\nsystem\n(S'touch {}'\ntR.",
    "instances": b"(S'touch {}'\nios\nsystem\n.",
    "a state on a function": b"ctorch._utils\n_rebuild_tensor\n(N}(S'__defaults__'\nNutb.",
    "a state on a class": b"cbuiltins\ndict\n(N}(S'x'\nNutb.",
    "an endless memo": b"(" * 100_000 + b".",
    "an unknown extension": b"\x80\x02\x82\x01.",
    "a huge length": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "no end": b"\x80\x02}",
}


@pytest.mark.parametrize("case", OPERATIONS)
def test_forged_pickles(tmp_path, plain, case):
    canary = tmp_path / "canary"
    content = OPERATIONS[case].replace(b"{}", str(canary).encode())
    before = torch._utils._rebuild_tensor.__defaults__
    refusal(plain, written(tmp_path / "net.pt", content), arch=Net())
    assert not canary.exists()
    assert torch._utils._rebuild_tensor.__defaults__ == before


def test_arrays_of_objects_run_nothing(tmp_path, plain):
    canary = tmp_path / "canary"
    path = npz(tmp_path / "net.npz", arr_0=np.array([Call(os.mkdir, str(canary))], object))
    assert "numpy.savez" in refusal(plain, path)
    assert not canary.exists()
