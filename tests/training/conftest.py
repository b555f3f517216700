"""Small studies on disk that a small network learns in seconds."""

import csv

import nibabel as nib
import numpy as np
import pytest

NET = """
from torch import nn

def make(n_classes=2):
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, n_classes))
"""


def write_study(folder, n=24, size=8, per_subject=1, classes=("NC", "AD"), seed=0):
    """Scans of noise, the second class with a bright corner, and metadata.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        label = (number // per_subject) % len(classes)
        data = random.random((size,) * 3).astype(np.float32)
        data[: size // 2, : size // 2] += label
        name = f"scan-{number}.nii.gz"
        nib.save(nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1])), folder / name)
        rows.append(
            {"Path": name, "Label": classes[label], "Subject": f"sub-{number // per_subject}"}
        )
    write_rows(folder / "metadata.csv", rows)
    return folder / "metadata.csv"


def write_rows(table, rows):
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def read_rows(table):
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def study_table(tmp_path):
    """24 scans of 24 subjects, 8 x 8 x 8 voxels."""
    return write_study(tmp_path / "study")


@pytest.fixture
def net(tmp_path):
    """A small network as the command line names it."""
    path = tmp_path / "small_net.py"
    path.write_text(NET)
    return f"{path}:make()"
