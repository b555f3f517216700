"""Truncated, garbled and misnamed files: a plain sentence that names the file, and no harm."""

import pytest

from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.models.checkpoint import load_model

from .small_files import SUFFIXES, Net, refusal, written

CUTS = {
    "empty": lambda n: 0,
    "one byte": lambda n: 1,
    "100 bytes": lambda n: 100,
    "half": lambda n: n // 2,
    "all but one byte": lambda n: n - 1,
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", SUFFIXES)
def test_truncated_files(tmp_path, plain, valid, kind, cut):
    content = valid[kind][: CUTS[cut](len(valid[kind]))]
    path = written(tmp_path / f"net{SUFFIXES[kind]}", content)
    text = refusal(plain, path, arch=Net())
    assert "again" in text


@pytest.mark.parametrize("kind", SUFFIXES)
@pytest.mark.parametrize("place", [0.02, 0.3, 0.7, 0.98])
def test_garbled_files_load_or_say_what_is_wrong(tmp_path, plain, valid, kind, place):
    content = bytearray(valid[kind])
    at = int(len(content) * place)
    content[at : at + 24] = bytes(255 - b for b in content[at : at + 24])
    path = written(tmp_path / f"net{SUFFIXES[kind]}", bytes(content))
    try:
        load_model(path, "cpu", arch=Net())
    except CnnVisError as exc:
        plain(exc, path)


@pytest.mark.parametrize("kind", SUFFIXES)
@pytest.mark.parametrize("other", [".pt", ".pt2", ".npz", ".safetensors", ".ckpt", ""])
def test_a_wrong_ending_loads_or_says_what_is_wrong(tmp_path, plain, valid, kind, other):
    path = written(tmp_path / f"net{other}", valid[kind])
    try:
        load_model(path, "cpu", arch=Net())
    except CnnVisError as exc:
        plain(exc, path)
