"""Checkpoint files: what is read from them, and what is refused."""

import os
import pickle
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from napari_cnnvis.errors import CheckpointError, VolumeError
from napari_cnnvis.models.formats.checkpoint_file import HEADER_KEY, write_safetensors
from napari_cnnvis.models.formats.read import read_file


def weights():
    return {
        "conv.weight": torch.arange(54.0).reshape(2, 1, 3, 3, 3),
        "conv.bias": torch.tensor([1.0, 2.0]),
    }


def same(state, expected=None):
    expected = expected or weights()
    return state.keys() == expected.keys() and all(
        torch.equal(state[name], tensor) for name, tensor in expected.items()
    )


class RunsCode:
    """Makes the folder `marker` when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def saved(content, path, **options):
    torch.save(content, path, **options)
    return path


def test_safetensors_round_trip_with_header(tmp_path):
    path = tmp_path / "net.safetensors"
    header = {"class_names": ["AD", "Größe"], "input": {"shape": None, "spacing": [1.5, 1, 1]}}
    write_safetensors(path, weights(), header)
    file = read_file(path)
    assert same(file.state)
    assert file.header == header
    assert list(tmp_path.iterdir()) == [path]


def test_any_memory_layout_can_be_written(tmp_path):
    laid_out = {"w": torch.rand(2, 4, 3, 3, 3).to(memory_format=torch.channels_last_3d)}
    write_safetensors(tmp_path / "net.safetensors", laid_out, {})
    assert same(read_file(tmp_path / "net.safetensors").state, laid_out)


def test_safetensors_of_others_have_an_empty_header(tmp_path):
    save_file(weights(), tmp_path / "net.safetensors", metadata={"format": "pt"})
    file = read_file(tmp_path / "net.safetensors")
    assert same(file.state)
    assert file.header == {}


def test_an_existing_safetensors_file_is_kept_when_writing_fails(tmp_path):
    path = tmp_path / "net.safetensors"
    write_safetensors(path, weights(), {"version": 1})
    with pytest.raises(TypeError):
        write_safetensors(path, {}, {"training": object()}, overwrite=True)
    assert same(read_file(path).state)
    assert list(tmp_path.iterdir()) == [path]


def test_writing_into_a_missing_folder_is_a_plain_error(tmp_path, plain):
    path = tmp_path / "none" / "net.safetensors"
    with pytest.raises(VolumeError) as caught:
        write_safetensors(path, weights(), {})
    plain(caught.value, path)


WRAPPINGS = {
    "bare": lambda w: w,
    "state_dict": lambda w: {"state_dict": w},
    "Lightning": lambda w: {
        "epoch": 3,
        "global_step": 120,
        "pytorch-lightning_version": "2.4",
        "state_dict": {f"model.{k}": v for k, v in w.items()},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}],
        "hyper_parameters": {"lr": 1e-4},
    },
    "with a loss beside": lambda w: {"model_state_dict": w, "loss": 0.5},
    "data parallel": lambda w: {f"module.{k}": v for k, v in w.items()},
    "compiled": lambda w: {f"_orig_mod.{k}": v for k, v in w.items()},
    "two prefixes": lambda w: {"net": {f"module.model.{k}": v for k, v in w.items()}},
    "numbers beside the weights": lambda w: {**w, "epoch": 3},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("zipped", [True, False])
def test_wrappers_and_prefixes_are_undone(tmp_path, wrapping, zipped):
    content = WRAPPINGS[wrapping](weights())
    path = saved(content, tmp_path / "net.ckpt", _use_new_zipfile_serialization=zipped)
    assert same(read_file(path).state)


def test_what_was_undone_is_noted(tmp_path):
    path = saved({"state_dict": {"module.a": torch.ones(1)}}, tmp_path / "net.pt")
    unwrapped, prefix = read_file(path).notes
    assert "'state_dict'" in unwrapped
    assert "'module.'" in prefix


def test_a_prefix_of_some_names_only_is_kept(tmp_path):
    mixed = {"model.a": torch.ones(1), "b": torch.ones(1)}
    assert same(read_file(saved(mixed, tmp_path / "net.pt")).state, mixed)


def test_lasagne_arrays_keep_their_order(tmp_path):
    arrays = [np.full(2, n, np.float32) for n in range(12)]
    np.savez(tmp_path / "net.npz", *arrays)
    read = read_file(tmp_path / "net.npz").arrays
    assert [a.tolist() for a in read] == [a.tolist() for a in arrays]


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_torch_file_is_not_run(tmp_path, plain, zipped):
    marker = tmp_path / "marker"
    content = {"state_dict": weights(), "extra": RunsCode(marker)}
    path = saved(content, tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError) as caught:
        read_file(path)
    assert "trust=True" in plain(caught.value, path)
    assert not marker.exists()

    assert same(read_file(path, trust=True).state)
    assert marker.is_dir()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_bare_pickle_is_not_run(tmp_path, plain, protocol):
    marker = tmp_path / "marker"
    path = tmp_path / "net.pkl"
    path.write_bytes(pickle.dumps(RunsCode(marker), protocol))
    with pytest.raises(CheckpointError) as caught:
        read_file(path)
    plain(caught.value, path)
    assert not marker.exists()


@pytest.mark.parametrize("trust", [False, True])
def test_code_in_a_npz_file_is_not_run_however_much_it_is_trusted(tmp_path, plain, trust):
    marker = tmp_path / "marker"
    path = tmp_path / "net.npz"
    np.savez(path, np.array([RunsCode(marker)], dtype=object))
    with pytest.raises(CheckpointError) as caught:
        read_file(path, trust=trust)
    assert "numpy.savez" in plain(caught.value, path)
    assert not marker.exists()


def test_of_a_whole_network_only_the_weights_are_read_unless_trusted(tmp_path):
    net = nn.Sequential(nn.Conv3d(1, 2, 3))
    path = saved(net, tmp_path / "net.pt")
    file = read_file(path)
    assert file.module is None
    assert file.pickled == "torch.nn.modules.container.Sequential"
    assert same(file.state, net.state_dict())
    assert len(file.notes) == 1
    file = read_file(path, trust=True)
    assert isinstance(file.module, nn.Sequential)
    assert same(file.module.state_dict(), net.state_dict())
    assert len(file.notes) == 1


def written(path, content):
    path.write_bytes(content)
    return path


def cut(path, start=0.0, stop=0.6):
    content = path.read_bytes()
    return written(path, content[int(len(content) * start) : int(len(content) * stop)])


def safetensors_file(folder, **metadata):
    save_file(weights(), folder / "a.safetensors", metadata=metadata or None)
    return folder / "a.safetensors"


def npz_file(folder, *arrays, **named):
    np.savez(folder / "a.npz", *arrays, **named)
    return folder / "a.npz"


def compressed_file(folder):
    np.savez_compressed(folder / "a.npz", np.arange(3000) % 7)
    return folder / "a.npz"


def npy_file(folder):
    np.save(folder / "a.npy", np.zeros(3))
    return (folder / "a.npy").rename(folder / "a.npz")


def garbled(path):
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(255 - byte for byte in content[60:90])
    return written(path, content)


def torchscript_file(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(nn.Linear(2, 2)).save(str(folder / "a.pt"))
    return folder / "a.pt"


def without_directory(path):
    """A zip file whose central directory is overwritten."""
    return written(path, path.read_bytes().replace(b"PK\x01\x02", b"PK\x09\x09"))


TEXT = b"epoch,loss\n1,0.7\n" * 30
NOISE = np.random.default_rng(0).bytes(3000)
AGAIN, STATE, LASAGNE = "download it again", "state_dict()", "arr_0, arr_1"
WRONG_FILES = {
    "missing": (lambda d: d / "a.pt", "check its name"),
    "a folder": (lambda d: d, "choose the checkpoint file in it"),
    "empty": (lambda d: written(d / "a.pt", b""), AGAIN),
    "empty .npz": (lambda d: written(d / "a.npz", b""), AGAIN),
    "truncated .safetensors": (lambda d: cut(safetensors_file(d)), AGAIN),
    "text called .safetensors": (lambda d: written(d / "a.safetensors", TEXT), AGAIN),
    "broken header": (lambda d: safetensors_file(d, **{HEADER_KEY: "{"}), AGAIN),
    "wrong class names": (lambda d: safetensors_file(d, **{HEADER_KEY: '{"class_names": 5}'}), "save the checkpoint again"),
    "wrong training record": (lambda d: safetensors_file(d, **{HEADER_KEY: '{"training": [5]}'}), "save the checkpoint again"),
    "header of another kind": (lambda d: safetensors_file(d, **{HEADER_KEY: "[]"}), "save the checkpoint again"),
    "truncated .pt": (lambda d: cut(saved(weights(), d / "a.pt")), AGAIN),
    "end of a .pt": (lambda d: cut(saved(weights(), d / "a.pt"), 0.1, 1), AGAIN),
    ".pt without directory": (lambda d: without_directory(saved(weights(), d / "a.pt")), AGAIN),
    "truncated old .pt": (lambda d: cut(saved(weights(), d / "a.pt", _use_new_zipfile_serialization=False)), AGAIN),
    "text called .pt": (lambda d: written(d / "a.pt", TEXT), AGAIN),
    "noise called .pth": (lambda d: written(d / "a.pth", NOISE), AGAIN),
    "TorchScript of a flat net": (torchscript_file, "choose a network for 3D volumes"),
    "a list": (lambda d: saved([torch.ones(2)], d / "a.pt"), STATE),
    "no tensors": (lambda d: saved({"epoch": 3}, d / "a.pt"), STATE),
    "truncated .npz": (lambda d: cut(npz_file(d, np.zeros(500))), AGAIN),
    ".npz without directory": (lambda d: without_directory(npz_file(d, np.zeros(5))), AGAIN),
    "garbled .npz": (lambda d: garbled(compressed_file(d)), AGAIN),
    ".npy called .npz": (npy_file, AGAIN),
    "text called .npz": (lambda d: written(d / "a.npz", TEXT), AGAIN),
    "named arrays": (lambda d: npz_file(d, weight=np.zeros(3)), LASAGNE),
    "a gap in the arrays": (lambda d: npz_file(d, arr_0=np.zeros(3), arr_2=np.zeros(3)), "copy it again"),
    "no arrays": (npz_file, LASAGNE),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_FILES)
def test_wrong_files_give_a_plain_sentence_with_a_remedy(tmp_path, plain, case):
    make, remedy = WRONG_FILES[case]
    path = make(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        read_file(path)
    assert remedy in plain(caught.value, path)
