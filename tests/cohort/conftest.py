"""Small scans, a small network, and a store for the tests of many scans."""

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from napari_cnnvis.cohort.store import ResultStore
from napari_cnnvis.models.model import Model


@pytest.fixture
def write_scan():
    """Writes random scans; the folders they lie in are made."""

    def write(path, seed=0, shape=(8, 9, 10)):
        path.parent.mkdir(parents=True, exist_ok=True)
        data = np.random.default_rng(seed).random(shape).astype(np.float32)
        affine = np.diag([-2.0, 2.0, 2.0, 1.0])  # LAS, so that display axes differ
        kind = nib.MGHImage if path.suffix in (".mgz", ".mgh") else nib.Nifti1Image
        nib.save(kind(data, affine), path)
        return path

    return write


@pytest.fixture(scope="session")
def model():
    return _model()


@pytest.fixture
def make_model():
    """Makes networks of random weights."""
    return _model


def _model(seed=0, **arguments):
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    given = {"class_names": ["control", "AD"], "device": "cpu"} | arguments
    return Model(module, **given)


@pytest.fixture
def store(tmp_path):
    return ResultStore(tmp_path / "results")
