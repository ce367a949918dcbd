"""Reading ahead and writing behind: the same blocks in the same order, and no thread is left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

import relspace as rs
from relspace._core.device_copies import DeviceCopies
from relspace._core.memory import chunk_slices
from relspace.features import FeatureSet, TokenGrid, scan
from relspace.features.layer import LayerFeatures, RowItems
from relspace.rows.ahead import prefetched, read_ahead, write_behind
from relspace.rows.formats.memory import ArrayRows
from relspace.rows.formats.shards import ShardedRows
from relspace.rows.source import GeneratedRows

X = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
BLOCKS = chunk_slices(len(X), 50)
SECONDS = 10


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    n_threads = torch.get_num_threads()
    yield
    left = [one.name for one in set(threading.enumerate()) - before if "relspace " in one.name]
    assert not left
    assert torch.get_num_threads() == n_threads


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_blocks_come_once_and_in_order(ahead: bool, n: int) -> None:
    read: list[int] = []

    def square(number: int) -> int:
        read.append(number)
        return number * number

    found = list(read_ahead(square, iter(range(n)), ahead=ahead))
    assert found == [(number, number * number) for number in range(n)]
    assert read == list(range(n))


def test_the_next_block_is_read_while_one_is_worked_on_and_none_beyond() -> None:
    begun = [threading.Event() for _ in range(5)]
    readers = set()

    def read(number: int) -> int:
        readers.add(threading.get_ident())
        begun[number].set()
        return number

    with closing(read_ahead(read, range(5))) as blocks:
        for number, _ in blocks:
            if number + 1 < 5:
                assert begun[number + 1].wait(SECONDS)
            assert not any(event.is_set() for event in begun[number + 2 :])
    assert len(readers) == 1
    assert threading.get_ident() not in readers


def test_an_error_is_raised_at_its_block() -> None:
    def read(number: int) -> int:
        if number == 3:
            raise OSError("the disk is gone")
        return number

    worked_on = []

    def work() -> None:
        for number, _ in read_ahead(read, range(9)):
            worked_on.append(number)

    with pytest.raises(OSError, match="the disk is gone"):
        work()
    assert worked_on == [0, 1, 2]


def test_who_stops_early_leaves_no_thread() -> None:
    read: list[int] = []
    with closing(read_ahead(lambda number: read.append(number), range(100))) as blocks:
        next(blocks)
    assert len(read) <= 2

    def divide() -> None:
        with closing(read_ahead(float, range(100))) as others:
            for number, _ in others:
                read.append(1 // number)

    with pytest.raises(ZeroDivisionError):
        divide()
    with closing(read_ahead(float, range(100))):
        pass  # not even begun


def test_the_thread_has_one_core_and_leaves_the_others() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen = [threads for _, threads in read_ahead(lambda _: torch.get_num_threads(), range(3))]
        assert seen == [1, 1, 1]
        assert torch.get_num_threads() == 2
        fresh = list(read_ahead(lambda _: _in_new_thread(torch.get_num_threads), range(2)))
        assert [threads for _, threads in fresh] == [2, 2]
    finally:
        torch.set_num_threads(before)


def _in_new_thread(call: Callable[[], int]) -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


def test_blocks_are_written_in_order_while_the_next_is_made() -> None:
    free = threading.Event()
    written: list[int] = []
    told: list[tuple[int, int]] = []

    def write(rows: slice, values: int) -> None:
        assert free.wait(SECONDS)
        written.append(values)

    with write_behind(write, lambda rows: told.append((rows.start, threading.get_ident()))) as put:
        put(slice(0, 1), 0)
        assert written == [] == told  # handed over, and this thread went on
        free.set()
        for number in range(1, 5):
            put(slice(number, number + 1), number)
            assert len(written) >= number
    assert written == list(range(5))
    assert told == [(number, threading.get_ident()) for number in range(5)]


def test_an_error_of_writing_is_raised_at_the_next_block_or_the_end() -> None:
    def write(rows: slice, values: int) -> None:
        if values == 1:
            raise OSError("the disk is full")

    made: list[int] = []

    def work(numbers: range) -> None:
        with write_behind(write) as put:
            for number in numbers:
                made.append(number)
                put(slice(number, number + 1), number)

    with pytest.raises(OSError, match="the disk is full"):
        work(range(9))
    assert made == [0, 1, 2]
    with pytest.raises(OSError, match="the disk is full"):
        work(range(1, 2))


def test_what_was_made_before_an_error_is_written() -> None:
    written: list[int] = []

    def work() -> None:
        with write_behind(lambda rows, values: written.append(values)) as put:
            put(slice(0, 1), 7)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert written == [7]


@pytest.mark.parametrize("name", ["out.zarr", "out.npy"])
def test_a_reader_that_fails_leaves_the_chunks_before_it(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "x.npy", X)
    aligner = rs.Aligner().fit(X[:40])
    whole = aligner.transform(X)

    class Failing(ArrayRows):
        lies_in = "files"

        def read(self, start: int, stop: int) -> torch.Tensor:
            if start == 150:
                raise OSError("the disk is gone")
            return super().read(start, stop)

    source = Failing(X)
    source.lies_in = "files"
    done: list[int] = []
    out = rs.Output(tmp_path / name, chunk_rows=50)
    with pytest.raises(OSError, match="the disk is gone"):
        aligner.transform(source, out=out, progress=lambda n, *_: done.append(n))
    assert done == [50, 100, 150]
    found = aligner.transform(X, out=out, progress=lambda n, *_: done.append(n))
    assert done == [50, 100, 150, 200, 250, 300]
    np.testing.assert_allclose(found.read(0, 300).numpy(), whole, atol=1e-6)


def test_the_same_bits_whether_read_ahead_or_not(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    made = GeneratedRows(X.shape, lambda start, stop: X[start:stop])
    aligner = rs.Aligner().fit(X[:40])
    tables = []
    for name, source in (("files", scan(tmp_path / "x.npy")), ("code", made)):
        assert source.lies_in == name
        out = rs.Output(tmp_path / f"{name}.zarr", chunk_rows=64)
        rows = aligner.transform(source, out=out)
        cut = rs.NormalizedCut(4, n_landmarks=60).fit(
            source, out=tmp_path / f"{name}-cut.zarr", memory_budget=20_000
        )
        colors = rs.colors(cut, out=tmp_path / f"{name}-colors.zarr", memory_budget=20_000)
        embedded = cut["features"].read(0, 300)
        tables.append((rows.read(0, 300), embedded, colors["features"].read(0, 300)))
    for one, other in zip(*tables, strict=True):
        assert torch.equal(one, other)


def test_rows_can_be_collected_in_inference_mode(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    aligner = rs.Aligner().fit(X[:40])
    with torch.inference_mode():
        found = aligner.transform(tmp_path / "x.npy", memory_budget=20_000)
    np.testing.assert_allclose(found.numpy(), aligner.transform(X), atol=1e-6)


def test_sources_say_where_their_rows_lie(tmp_path: Path) -> None:
    zarr, h5py = pytest.importorskip("zarr"), pytest.importorskip("h5py")
    np.save(tmp_path / "x.npy", X)
    zarr.save(str(tmp_path / "x.zarr"), X)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = X
        assert ArrayRows(file["x"]).lies_in == "files"
    in_files = [scan(tmp_path / name) for name in ("x.npy", "x.zarr", "x.h5")]
    in_files.append(scan(np.load(tmp_path / "x.npy", mmap_mode="r")))
    in_memory = [scan(X), scan(torch.from_numpy(X))]
    in_memory.append(FeatureSet.from_arrays({"last": X})["last"].select(torch.arange(5)))
    code = GeneratedRows(X.shape, lambda start, stop: X[start:stop])
    assert {one.lies_in for one in in_files} == {"files"}
    assert {one.lies_in for one in in_memory} == {"memory"}
    assert code.lies_in == "code"
    assert ShardedRows([in_files[0], in_memory[0]]).lies_in == "files"
    assert ShardedRows([in_files[0], in_memory[0], code]).lies_in == "code"


def test_only_files_are_read_in_another_thread(tmp_path: Path) -> None:
    here = threading.get_ident()
    seen = []

    def make(start: int, stop: int) -> np.ndarray:
        seen.append(threading.get_ident())
        return X[start:stop]

    with prefetched(GeneratedRows(X.shape, make), BLOCKS, DeviceCopies()) as blocks:
        assert len(list(blocks)) == len(BLOCKS)
    assert set(seen) == {here}
    stored = scan(X)
    stored.lies_in = "files"
    stored._array = _Noting(seen)
    seen.clear()
    with prefetched(stored, BLOCKS, DeviceCopies()) as blocks:
        assert len(list(blocks)) == len(BLOCKS)
    assert here not in seen
    assert len(set(seen)) == 1


def test_what_rows_are_made_of_is_read_ahead(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    here, read_in, made_in = threading.get_ident(), [], []

    class Noted(ArrayRows):
        def read(self, start: int, stop: int) -> torch.Tensor:
            read_in.append(threading.get_ident())
            return super().read(start, stop)

    def double(rows: torch.Tensor) -> torch.Tensor:
        made_in.append(threading.get_ident())
        return 2 * rows

    source = Noted(X)
    source.lies_in = "files"
    grid = TokenGrid.whole(5, 5, n_images=12)
    layer = LayerFeatures("last", RowItems(source, grid), grid, None).mapped(8, double)
    with prefetched(layer, BLOCKS, DeviceCopies()) as blocks:
        found = list(blocks)
    assert torch.equal(torch.cat([rows for _, rows in found]), 2 * torch.from_numpy(X))
    assert set(made_in) == {here}
    assert here not in read_in

    held, made = (
        rs.align({"a": tmp_path / "x.npy", "b": -X}, landmarks=30, memory_budget=budget)
        for budget in (2**30, 1000)
    )
    assert made.rows("a").lies_in == "code"
    with prefetched(made.rows("a"), BLOCKS, DeviceCopies()) as blocks:
        found = list(blocks)
    torch.testing.assert_close(torch.cat([rows for _, rows in found]), held.rows("a").read(0, 300))
    assert np.allclose(made["a"], held["a"], atol=1e-6)


class _Noting:
    """An array that notes which thread takes a part of it."""

    def __init__(self, seen: list[int]) -> None:
        self._seen = seen

    def __getitem__(self, rows: slice) -> np.ndarray:
        self._seen.append(threading.get_ident())
        return X[rows]
