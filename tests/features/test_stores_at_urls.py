"""Feature stores that are written at URLs: gone on with, refused, taken over, never half."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
import zarr
from click.testing import CliRunner
from distributed import Client

import relspace
from relspace._core.progress import Listener, silent
from relspace.cli import commands
from relspace.errors import FileFormatError, InvalidInputError
from relspace.features import StoreLockedError, extraction, open_features
from relspace.features.items import identify_items, open_items
from relspace.features.store.reading import StoredLayer
from relspace.features.store.writing import FeatureStoreWriter
from relspace.rows import locks
from relspace.rows.identity import Identity
from relspace.rows.locks import Lease, WaitingWarning

Saved = Callable[[str], Path]
IMAGES = np.random.default_rng(0).random((7, 48, 48, 3)).astype(np.float32)
SIZES, BOXES, PRESENT = np.ones((2, 2), np.int64), np.zeros((1, 2, 4)), np.ones(2, np.uint8)


@pytest.fixture(autouse=True)
def small_chunks_and_frequent_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lives shows it at once; who is late on a busy machine has the time that users have."""
    monkeypatch.setattr(extraction, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(locks, "_SECONDS_BETWEEN_RENEWALS", 0.05)
    monkeypatch.setattr(locks, "_SECONDS_BETWEEN_LOOKS", 0.05)


@pytest.fixture
def soon_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests whose first writer is gone: a short wait tells nothing wrong."""
    monkeypatch.setattr(locks, "_SECONDS_UNTIL_DEAD", 1.0)


def model() -> relspace.ModuleModel:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 8, 8), torch.nn.Tanh())
    preprocessing = relspace.Preprocessing(size=(48, 48))
    return relspace.ModuleModel(network, ["0", "1"], layout="bchw", preprocessing=preprocessing)


def extract(out: str | Path, **given: Any) -> Any:
    return relspace.extract(model(), IMAGES, out, batch_size=2, **given)


def same(one: Any, other: Any) -> None:
    assert (one.layers, one.ids) == (other.layers, other.ids)
    for layer in one.layers:
        assert torch.equal(one[layer].tokens(), other[layer].tokens())


def listed(place: str) -> list[str]:
    system, path = fsspec.core.url_to_fs(place)
    system.invalidate_cache()
    return [name.rpartition("/")[2] for name in system.ls(path, detail=False)]


def stop_after(n_chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    marked: list[slice] = []
    mark = FeatureStoreWriter.mark

    def mark_or_stop(self: FeatureStoreWriter, chunk: slice, *rest: Any) -> None:
        if len(marked) == n_chunks:
            raise KeyboardInterrupt
        marked.append(chunk)
        mark(self, chunk, *rest)

    monkeypatch.setattr(FeatureStoreWriter, "mark", mark_or_stop)


def test_what_stopped_goes_on_to_the_same_bits(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{place}/a.zarr"
    with monkeypatch.context() as patched:
        stop_after(2, patched)
        with pytest.raises(KeyboardInterrupt):
            extract(url)
    # The third chunk has been written, and does not count.
    with pytest.raises(FileFormatError, match="3 of 7 items are missing"):
        open_features(url)
    assert len(open_features(url, partial=True)) == 4
    computed: list[int] = []
    forward = relspace.ModuleModel.forward

    def count(self: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        computed.append(len(inputs))
        return forward(self, inputs, *rest, **named)

    with monkeypatch.context() as patched:
        patched.setattr(relspace.ModuleModel, "forward", count)
        there = extract(url)
        assert computed == [2, 1]
        extract(url)
        assert computed == [2, 1]
    same(there, extract(tmp_path / "a.zarr"))
    assert there.metadata["path"] == url
    assert listed(place) == ["a.zarr"]


def test_another_extraction_is_refused_or_replaced(place: str) -> None:
    url = f"{place}/a.zarr"
    extract(url)
    with pytest.raises(InvalidInputError, match="another extraction; different are layers"):
        extract(url, layers="last")
    replaced = extract(url, layers="last", overwrite=True)
    assert replaced.layers == ("1",)
    assert "0" not in listed(f"{url}/layers")
    assert listed(place) == ["a.zarr"]


def test_several_models_have_stores_of_their_own(place: str) -> None:
    found = relspace.extract({"a": model(), "b": model()}, IMAGES, f"{place}/all/")
    assert found["b"].metadata["path"] == f"{place}/all/b.zarr"
    same(found["a"], open_features(f"{place}/all/b.zarr"))


def test_what_was_begun_is_begun_again(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{place}/a.zarr"

    def cut_off(*_: Any) -> None:
        raise ConnectionError("the link is down")

    with monkeypatch.context() as patched:
        patched.setattr("relspace.features.store.writing._make_arrays", cut_off)
        with pytest.raises(ConnectionError):
            extract(url)
    with pytest.raises(FileFormatError, match="no feature store"):
        open_features(url)
    assert len(extract(url)) == 7


def test_what_is_something_else_is_left_alone(place: str) -> None:
    system, path = fsspec.core.url_to_fs(place)
    system.makedirs(f"{path}/photos", exist_ok=True)
    system.pipe_file(f"{path}/photos/a.png", b"a photo")
    zarr.create_group(f"{place}/b.zarr").create_array("photos", data=IMAGES)
    for name in ("photos", "b.zarr"):
        with pytest.raises(
            FileFormatError, match=r"(no Zarr store|something else).*name another output"
        ):
            extract(f"{place}/{name}", overwrite=True)
    assert system.cat_file(f"{path}/photos/a.png") == b"a photo"
    assert listed(f"{place}/b.zarr/photos")


def test_a_writer_that_lives_is_not_disturbed(place: str) -> None:
    url = f"{place}/a.zarr"
    holder = rf"^process {os.getpid()} on {re.escape(socket.gethostname())} is writing"
    with writer(url) as first:
        for _ in range(2):
            with pytest.raises(StoreLockedError, match=holder) as error:
                writer(url, lambda *_: None)
            assert "end it, and run again" in str(error.value)
        write(first, slice(0, 2))
    assert len(open_features(url, partial=True)) == 2


@pytest.mark.usefixtures("soon_dead")
def test_a_writer_that_is_gone_is_followed(place: str) -> None:
    url = f"{place}/a.zarr"
    gone = writer(url)
    write(gone, slice(0, 2))
    put_to_sleep(gone)
    told: list[tuple[int, int, str]] = []
    with writer(url, lambda *one: told.append(one)) as follower:
        assert follower.missing() == [slice(2, 4)]
        assert f"whether process {os.getpid()} on" in told[0][2]
        # It was only asleep, and finds that the store is not its own any more.
        with pytest.raises(StoreLockedError, match="is writing"):
            gone.write(slice(2, 4), {}, image_sizes=SIZES, boxes=BOXES)
        with pytest.raises(StoreLockedError, match="is writing"):
            gone.mark(slice(2, 4), PRESENT, {}, "")
        gone.close()
        write(follower, slice(2, 4))
    # Nor is it when the follower is done.
    with pytest.raises(StoreLockedError):
        gone.mark(slice(2, 4), PRESENT, {}, "")
    assert len(open_features(url)) == 4
    assert listed(place) == ["a.zarr"]


@pytest.mark.usefixtures("soon_dead")
def test_who_waits_without_progress_is_warned(place: str) -> None:
    url = f"{place}/a.zarr"
    put_to_sleep(writer(url))
    with pytest.warns(WaitingWarning, match=rf"Waiting up to 1 s whether process {os.getpid()} on"):
        writer(url).close()


@pytest.mark.usefixtures("soon_dead")
def test_of_those_that_wait_one_follows(place: str) -> None:
    url = f"{place}/a.zarr"
    gone = Lease(url)
    gone._ended.set()
    gone._renewing.join()
    taken: list[Lease] = []
    refused: list[StoreLockedError] = []

    def follow() -> None:
        try:
            taken.append(Lease(url, lambda *_: None))
        except StoreLockedError as error:
            refused.append(error)

    waiting = [threading.Thread(target=follow) for _ in range(4)]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()
    assert (len(taken), len(refused)) == (1, 3)
    taken[0].check()
    taken[0].release()


def test_a_file_system_without_exclusive_making_lets_one_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://{tmp_path.name}/a.zarr"
    system = fsspec.filesystem("memory")
    made = system.pipe_file

    def overwritten_at_once(path: str, value: bytes, mode: str = "overwrite") -> None:
        made(path, value)
        if mode == "create":
            made(path, b"another 0")

    monkeypatch.setattr(type(system), "pipe_file", staticmethod(overwritten_at_once))
    with pytest.raises(StoreLockedError):
        Lease(url)


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    there = extract(f"file://{tmp_path}/a.zarr")
    same(there, open_features(tmp_path / "a.zarr"))
    same(there, open_features(f"file://{tmp_path}/a.zarr"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_on_the_command_line(place: str, saved: Saved, photos: Path) -> None:
    given = [str(saved("vit")), str(photos), "--device", "cpu", "--layers", "last"]
    ran = CliRunner().invoke(commands, ["extract", *given, "-o", f"{place}/a.zarr"])
    assert ran.exit_code == 0, ran.output
    assert f"Stored in {place}/a.zarr" in ran.stdout
    assert len(open_features(f"{place}/a.zarr")) == 5


@pytest.mark.slow
def test_workers_write_at_a_url(s3: str, client: Client, tmp_path: Path) -> None:
    url = f"{s3}/{tmp_path.name}/a.zarr"
    there = extract(url, client=client)
    here = extract(tmp_path / "a.zarr")
    assert there.ids == here.ids
    for layer in here.layers:
        a, b = there[layer].tokens(), here[layer].tokens()
        torch.testing.assert_close(a, b, atol=2e-3, rtol=2e-3)


def writer(url: str, tell: Listener = silent) -> FeatureStoreWriter:
    shared: dict[str, Any] = {
        "items": identify_items(open_items("text", list("abcd"), list("abcd"))),
        "job": {
            "model": "x",
            "store_dtype": "float16",
            "network": Identity("content", "the same").record(),
        },
        "tell": tell,
    }
    found = FeatureStoreWriter.resume(url, **shared)
    if found is not None:
        return found
    layers, regions = [StoredLayer("a", (3,))], [(0.0, 0.0, 1.0, 1.0)]
    return FeatureStoreWriter.create(url, layers=layers, regions=regions, chunk_items=2, **shared)


def write(store: FeatureStoreWriter, chunk: slice) -> None:
    ones = np.ones((2, 3), dtype="float16")
    checksum = store.write(chunk, {"a": ones}, image_sizes=SIZES, boxes=BOXES)
    store.mark(chunk, PRESENT, {}, checksum)


def put_to_sleep(store: FeatureStoreWriter) -> None:
    lease = store._lock
    assert isinstance(lease, Lease)
    lease._ended.set()
    lease._renewing.join()
