"""What is put into a store comes back exactly, or not at all."""

import json
import multiprocessing
import os
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_cnnvis.cohort.predictions import Prediction
from napari_cnnvis.cohort.store import DEFAULT_LIMIT, ResultStore
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.record import Record
from napari_cnnvis.scan.volume import Volume

RECORD = {"method": "CAM", "class_name": "AD", "input": {"shape": (3, 4, 5)}, "seconds": 0.1}


def attribution(data, **more):
    source = Volume(np.zeros(data.shape, np.float32), np.diag([2.0, 2, 2, 1]), "scan")
    return Attribution(data, source.affine, Record(RECORD), source, **more)


def noise(seed=0, shape=(6, 7, 8)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def files(store):
    return sorted(p for p in store.folder.rglob("*") if p.is_file())


@given(
    arrays(np.float32, (2, 3, 2), elements=st.floats(width=32)),
    st.none() | arrays(np.float32, (2, 1, 1), elements=st.floats(width=32)),
    st.booleans(),
    st.lists(st.text()),
)
def test_maps_come_back_bit_for_bit(tmp_path_factory, data, native, partial, notes):
    store = ResultStore(tmp_path_factory.mktemp("store"))
    put = attribution(data, native=native, partial=partial, notes=tuple(notes))
    store.put_attribution("key", put)
    got = store.attribution("key", put.source)
    assert got.data.tobytes() == np.ascontiguousarray(data).tobytes()
    assert got.data.dtype == np.float32
    assert (got.native is None) == (native is None)
    assert native is None or got.native.tobytes() == native.tobytes()
    assert got.provenance == json.loads(json.dumps(RECORD))
    assert (got.partial, got.notes, got.name) == (partial, tuple(notes), put.name)
    assert got.source is put.source
    np.testing.assert_array_equal(got.affine, put.affine)


@given(arrays(np.float32, st.integers(1, 5), elements=st.floats(width=32)), st.lists(st.text()))
def test_predictions_come_back_bit_for_bit(tmp_path_factory, values, notes):
    store = ResultStore(tmp_path_factory.mktemp("store"))
    store.put_prediction("key", Prediction(values, tuple(notes)))
    got = store.prediction("key")
    assert got.values.dtype == np.float32
    np.testing.assert_array_equal(got.values, values)
    assert got.notes == tuple(notes)


def test_what_is_not_there_is_none(store):
    assert store.prediction("aa") is None
    assert store.attribution("aa", attribution(noise()).source) is None
    assert not store.has_attribution("aa")
    assert store.size == 0


def test_a_map_of_any_memory_order_comes_back(store):
    put = attribution(noise().transpose(2, 0, 1)[::-1])
    store.put_attribution("aa", put)
    np.testing.assert_array_equal(store.attribution("aa", put.source).data, put.data)


def damage(path, how):
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "empty": b"",
            "cut": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :],
            "other": b"{}",
            "list": b"[1, 2]",
            "noise": os.urandom(300),
        }[how]
    )


@pytest.mark.parametrize("how", ["empty", "cut", "flipped", "other", "list", "noise"])
def test_damaged_entries_are_absent_and_written_again(store, how):
    put = attribution(noise())
    store.put_attribution("aa", put)
    store.put_prediction("bb", Prediction(np.ones(2, np.float32)))
    for path in files(store):
        if not (how == "flipped" and path.suffix == ".json"):
            damage(path, how)
    assert store.attribution("aa", put.source) is None
    assert not store.has_attribution("aa")
    if how != "flipped":
        assert store.prediction("bb") is None
    store.put_attribution("aa", put)
    np.testing.assert_array_equal(store.attribution("aa", put.source).data, put.data)


def test_any_flipped_byte_of_a_map_is_noticed_or_harmless(store):
    put = attribution(noise(shape=(3, 3, 3)))
    store.put_attribution("aa", put)
    (path,) = files(store)
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        got = store.attribution("aa", put.source)
        assert got is None or got.data.tobytes() == put.data.tobytes()


def test_a_map_of_another_shape_is_not_taken(store):
    store.put_attribution("aa", attribution(noise()))
    assert store.attribution("aa", Volume(np.zeros((2, 2, 2)))) is None


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    one = attribution(noise())
    store = ResultStore(tmp_path, limit=10**9)
    store.put_attribution("a0", one)
    store = ResultStore(tmp_path, limit=int(store.size * 3.5))
    for number, key in enumerate(("b0", "c0")):
        store.put_attribution(key, one)
        os.utime(tmp_path / key / f"{key}.npz", ns=(number, number))
    os.utime(tmp_path / "a0" / "a0.npz", ns=(0, 0))
    assert store.attribution("a0", one.source) is not None  # used just now
    store.put_attribution("d0", one)
    assert [store.has_attribution(k) for k in ("a0", "b0", "c0", "d0")] == [True, False, True, True]
    assert store.size <= store.limit


def test_the_newest_stays_even_if_it_is_too_large(tmp_path):
    store = ResultStore(tmp_path, limit=10)
    store.put_attribution("a0", attribution(noise()))
    store.put_attribution("b0", attribution(noise()))
    assert [store.has_attribution(k) for k in ("a0", "b0")] == [False, True]


def test_files_of_a_process_that_died_are_removed_after_a_day(tmp_path):
    store = ResultStore(tmp_path)
    (tmp_path / "a0").mkdir()
    old, new = tmp_path / "a0" / ".old.npz-1.npz", tmp_path / "a0" / ".new.npz-1.npz"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (0, time.time() - 2 * 86_400))
    store.put_attribution("b0", attribution(noise()))
    assert not old.exists()
    assert new.exists()
    store.clear()
    assert files(store) == [new]


def test_a_folder_that_cannot_be_written_is_said_plainly(tmp_path, plain):
    (tmp_path / "file").write_text("x")
    store = ResultStore(tmp_path / "file")
    with pytest.raises(CnnVisError) as caught:
        store.put_prediction("aa", Prediction(np.ones(2, np.float32)))
    plain(caught.value, tmp_path / "file")
    assert store.prediction("aa") is None


def test_by_default_5_gb_are_kept_in_the_users_cache():
    assert ResultStore().limit == DEFAULT_LIMIT == 5_000_000_000
    assert "napari-cnnvis" in str(ResultStore().folder)


def _write_many(folder, start):
    store = ResultStore(folder, limit=60_000)
    start.wait()
    for _ in range(4):
        for key in "abcdefgh":
            put = attribution(noise(ord(key), (12, 12, 12)))
            store.put_attribution(key * 4, put)
            got = store.attribution(key * 4, put.source)
            assert got is None or np.array_equal(got.data, put.data)


def test_two_processes_share_a_folder(tmp_path):
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    start = context.Event()
    workers = [context.Process(target=_write_many, args=(tmp_path, start)) for _ in range(2)]
    for worker in workers:
        worker.start()
    start.set()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    store = ResultStore(tmp_path)
    assert store.size < 2 * 60_000
    assert all(not p.name.startswith(".") for p in files(store))
    for path in files(store):
        put = attribution(noise(ord(path.stem[0]), (12, 12, 12)))
        np.testing.assert_array_equal(store.attribution(path.stem, put.source).data, put.data)
