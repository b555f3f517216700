"""Packed checkpoints are opened by what is in them."""

import bz2
import gzip
import lzma

import numpy as np
import pytest
import torch

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.formats.read import read_file
from napari_cnnvis.models.settings import file_hash

from .small_files import SUFFIXES

PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def written(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("kind", SUFFIXES)
def test_every_kind_may_be_packed(tmp_path, valid, kind, packer, named):
    plain_path = written(tmp_path / f"net{SUFFIXES[kind]}", valid[kind])
    (tmp_path / "packed").mkdir()
    name = f"{plain_path.name}.{packer}" if named else plain_path.name
    path = written(tmp_path / "packed" / name, PACKERS[packer](valid[kind]))
    file, plain = read_file(path), read_file(plain_path)
    assert file.path == path
    assert file.kind == plain.kind
    assert file.state.keys() == plain.state.keys()
    assert all(torch.equal(file.state[k], plain.state[k]) for k in file.state)
    assert all(np.array_equal(a, b) for a, b in zip(file.arrays, plain.arrays, strict=True))
    assert any(note.startswith("unpacked (") for note in file.notes)
    assert file_hash(path)


def test_what_is_wrong_inside_is_said_of_the_packed_file(tmp_path, plain):
    path = written(tmp_path / "net.pt.gz", gzip.compress(b"epoch,loss\n1,0.7\n" * 30))
    with pytest.raises(CheckpointError) as caught:
        read_file(path)
    plain(caught.value, path)


@pytest.mark.parametrize("packer", PACKERS)
def test_a_cut_packed_file_is_a_plain_sentence(tmp_path, plain, packer):
    content = PACKERS[packer](np.random.default_rng(0).bytes(20_000))
    path = written(tmp_path / f"net.pt.{packer}", content[: len(content) // 2])
    with pytest.raises(CheckpointError) as caught:
        read_file(path)
    assert "copy or download it again" in plain(caught.value, path)


def test_a_bomb_is_not_unpacked(tmp_path, plain, monkeypatch):
    monkeypatch.setattr("napari_cnnvis.reading._LARGE", 1_000_000)
    path = written(tmp_path / "net.pt.gz", gzip.compress(bytes(30_000_000)))
    with pytest.raises(CheckpointError) as caught:
        read_file(path)
    assert "was not opened" in plain(caught.value, path)
