"""Small files that would unpack to large ones."""

import struct
import tracemalloc
import zipfile

import pytest

from .small_files import refusal, written, zipped


def bomb(path, members, size):
    """A small zip of members that unpack to `size` zeros: one block, written again and again."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name in members:
            with file.open(name, "w", force_zip64=True) as stream:
                for _ in range(size // 2**24):
                    stream.write(bytes(2**24))
    return path


def forged_size(path, member, size):
    """A zip whose directory says that a member is larger than it is."""
    zipped(path, {member: bytes(1000)}, compression=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", size)
    return written(path, bytes(content))


BOMBS = {
    ".pt": lambda d: forged_size(d / "net.pt", "net/data.pkl", 2**32 - 2),
    ".pt of many zeros": lambda d: bomb(d / "net.pt", ["net/data.pkl"], 2**29 + 2**28),
    ".npz": lambda d: forged_size(d / "net.npz", "arr_0.npy", 2**32 - 2),
    ".pt2": lambda d: forged_size(d / "net.pt2", "net/models/model.json", 2**32 - 2),
    "bundle": lambda d: forged_size(d / "net.zip", "net/configs/metadata.json", 2**32 - 2),
    "TorchScript": lambda d: forged_size(d / "net.ts", "net/constants.pkl", 2**32 - 2),
}


@pytest.mark.parametrize("case", BOMBS)
def test_zip_bombs_are_not_unpacked(tmp_path, plain, case):
    path = BOMBS[case](tmp_path)
    tracemalloc.start()
    try:
        text = refusal(plain, path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2**26  # they unpack to twelve times that or more, or say that they do
    assert "was not opened" in text
