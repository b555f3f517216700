"""A small network in every file format, and what makes files of it."""

import io
import json
import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.models.checkpoint import load_model
from napari_cnnvis.models.formats.checkpoint_file import HEADER_KEY


class Net(nn.Module):
    def __init__(self, n_classes=2):
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.head = nn.Linear(2, n_classes)

    def forward(self, x):
        return self.head(self.pool(self.conv(x)).flatten(1))


def state(**changes):
    torch.manual_seed(0)
    return {**Net().state_dict(), **changes}


def written(path, content):
    path.write_bytes(content)
    return path


def saved(content, path, **options):
    torch.save(content, path, **options)
    return path


def quietly(work):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return work()


def content_of(kind):
    """The bytes of a valid file."""
    buffer = io.BytesIO()
    if kind == "safetensors":
        return save(state(), {HEADER_KEY: json.dumps({"class_names": ["a", "b"]})})
    if kind == "pt":
        torch.save(state(), buffer)
    elif kind == "old pt":
        torch.save(state(), buffer, _use_new_zipfile_serialization=False)
    elif kind == "pickled net":
        torch.save(Net(), buffer)
    elif kind == "npz":
        np.savez(buffer, *[np.ones((2, 3), np.float32)] * 3)
    elif kind == "pt2":
        program = torch.export.export(Net().eval(), (torch.rand(1, 1, 6, 6, 6),))
        quietly(lambda: torch.export.save(program, buffer))
    elif kind == "torchscript":
        quietly(lambda: torch.jit.save(torch.jit.script(Net().eval()), buffer))
    return buffer.getvalue()


SUFFIXES = {
    "safetensors": ".safetensors",
    "pt": ".pt",
    "old pt": ".pth",
    "pickled net": ".pt",
    "npz": ".npz",
    "pt2": ".pt2",
    "torchscript": ".ts",
}


def refusal(plain, path, about=None, **options):
    """What is said of a file that cannot be loaded, in one or two sentences."""
    with pytest.raises(CnnVisError) as caught:
        load_model(path, "cpu", **options)
    text = plain(caught.value, path.name if about is None else about)
    assert "Traceback" not in text
    assert len(text.replace(str(path), "")) < 450
    return text


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def zipped(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call
