import gc
import threading
import weakref
from pathlib import Path

import pytest
import torch

from napari_cnnvis.errors import Cancelled, CheckpointError
from napari_cnnvis.models.cache import CheckpointCache
from napari_cnnvis.models.networks.vox import VoxResNetGAP
from napari_cnnvis.models.settings import Recipe, file_hash, remember, remembered
from napari_cnnvis.scan.conform import InputSpec


@pytest.fixture
def path(tmp_path):
    torch.manual_seed(0)
    torch.save(VoxResNetGAP().state_dict(), tmp_path / "net.pt")
    return tmp_path / "net.pt"


def test_the_same_content_is_opened_once_whatever_it_is_called(path, tmp_path):
    cache = CheckpointCache()
    first = cache.load(path, device="cpu")
    copy = tmp_path / "copy.pth"
    copy.write_bytes(path.read_bytes())
    assert cache.load(copy, device="cpu").model.module is first.model.module


def test_changed_content_is_opened_anew(path):
    cache = CheckpointCache()
    first = cache.load(path, device="cpu")
    torch.save(VoxResNetGAP(n_classes=3).state_dict(), path)
    second = cache.load(path, device="cpu")
    assert second.model.module is not first.model.module
    assert len(second.model.class_names) == 3


def test_other_settings_share_the_network(path):
    cache = CheckpointCache()
    first = cache.load(path, device="cpu")
    recipe = Recipe(class_names=("NC", "AD"), input_spec=InputSpec(intensity="z-score"))
    second = cache.load(path, recipe, device="cpu")
    assert second.model.module is first.model.module
    assert second.model.class_names == ("NC", "AD")
    assert second.model.input_spec.intensity == "z-score"
    assert first.model.class_names == ("class 0", "class 1")


def test_only_the_last_few_are_kept(path, tmp_path):
    cache = CheckpointCache(size=1)
    first = cache.load(path, device="cpu").model.module
    torch.save(VoxResNetGAP().state_dict(), tmp_path / "other.pt")
    cache.load(tmp_path / "other.pt", device="cpu")
    assert cache.load(path, device="cpu").model.module is not first


def test_clearing_frees_the_memory(path):
    cache = CheckpointCache()
    loaded = cache.load(path, device="cpu")
    weights = weakref.ref(next(loaded.model.module.parameters()))
    del loaded
    assert weights() is not None
    cache.clear()
    gc.collect()
    assert weights() is None


def test_what_was_remembered_is_used(path):
    digest = file_hash(path)
    remember(digest, Recipe(class_names=("NC", "AD")))
    cache = CheckpointCache()
    loaded = cache.load(path, device="cpu")
    assert loaded.model.class_names == ("NC", "AD")
    assert loaded.digest == digest
    assert cache.load(path, Recipe(), device="cpu").model.class_names == ("class 0", "class 1")


def test_a_missing_file_is_a_plain_error(tmp_path, plain):
    with pytest.raises(CheckpointError) as caught:
        CheckpointCache().load(tmp_path / "none.pt")
    plain(caught.value, tmp_path / "none.pt")


# --- recipes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe("monai.networks.nets:resnet18(spatial_dims=3)", ("a", "b"), "sigmoid"),
        Recipe(input_spec=InputSpec((1, 2, 3), (1, 1.5, 2), "LPS", "none", 2, resize=True)),
        Recipe(input_spec=InputSpec(window=(8, 9, 10), overlap=0.25)),
    ],
)
def test_a_recipe_comes_back_as_it_was(recipe):
    remember("abc", recipe)
    assert remembered("abc") == recipe


def test_nothing_is_known_of_other_files():
    assert remembered("unheard of") == Recipe()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"input_spec": {"shape": [0, 0, 0]}}', "3"])
def test_a_damaged_memory_is_as_none(content, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    remember("abc", Recipe(output="sigmoid"))
    (file,) = tmp_path.rglob("abc.json")
    file.write_text(content)
    assert remembered("abc") == Recipe()


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(blocked))
    remember("abc", Recipe(output="sigmoid"))
    assert remembered("abc") == Recipe()


def test_hash_of_a_folder_follows_its_files(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text("1")
    first = file_hash(tmp_path)
    assert file_hash(tmp_path) == first
    (tmp_path / "notes").write_text("not of the bundle")
    assert file_hash(tmp_path) == first
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.pt").write_text("2")
    assert file_hash(tmp_path) != first


def test_a_folder_of_other_things_is_not_walked(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    monkeypatch.setattr(Path, "rglob", lambda *_: pytest.fail("walked"))
    with pytest.raises(CheckpointError, match="neither a MONAI bundle"):
        file_hash(tmp_path)


def test_a_cancelled_load_stops_before_the_file_is_read_to_its_end(tmp_path):
    cancel = threading.Event()
    cancel.set()
    (tmp_path / "net.pt").write_bytes(b"x" * 10)
    with pytest.raises(Cancelled, match="cancelled"):
        CheckpointCache().load(tmp_path / "net.pt", cancel=cancel)
