"""Copies beside computation: right whatever is late, and never more memory than the budget.

No GPU is needed for what waits for what: streams are simulated that do nothing until somebody waits
for them, so that a forgotten event leaves NaN behind. Tests marked ``gpu`` run on the real ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import relspace as rs
from relspace._core.device_copies import Copy, DeviceCopies, StreamedCopies, copies_for
from relspace._core.devices import choose_device, to_device
from relspace.cli import commands
from relspace.errors import InvalidInputError
from relspace.features import scan
from relspace.kernels import fit_normalization
from relspace.rows.formats.memory import ArrayRows
from relspace.rows.source import GeneratedRows
from relspace.rows.transform import bytes_per_row, collect_rows, rows_at_once

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
X = torch.randn(300, 12, generator=torch.Generator().manual_seed(0))
SECONDS = 10


class LateStream:
    """A stream whose work is done when somebody waits for it, and not before."""

    def __init__(self, device: object = None) -> None:
        self.work: list[Callable[[], object]] = []
        self.n_done = 0

    def catch_up(self, n: int) -> None:
        while self.n_done < n:
            self.n_done += 1
            self.work[self.n_done - 1]()

    def record_event(self) -> LateEvent:
        return LateEvent(self, len(self.work))

    def wait_event(self, event: LateEvent) -> None:
        self.work.append(event.synchronize)

    def wait_stream(self, other: LateStream) -> None:
        self.wait_event(other.record_event())


class LateEvent:
    """A place in a stream's work."""

    def __init__(self, stream: LateStream, place: int) -> None:
        self.stream, self.place = stream, place

    def synchronize(self) -> None:
        self.stream.catch_up(self.place)


class LateCuda:
    """Streams as torch.cuda has them: each thread has a current one."""

    Stream = LateStream

    def __init__(self) -> None:
        self._current = threading.local()
        self._default = LateStream()

    def current_stream(self, device: object = None) -> LateStream:
        return getattr(self._current, "stream", self._default)

    @contextmanager
    def stream(self, stream: LateStream) -> Iterator[None]:
        before = self.current_stream()
        self._current.stream = stream
        yield
        self._current.stream = before


class LateCopies(StreamedCopies):
    """Copies to a device that is late with everything, and notes what was asked of it."""

    def __init__(self) -> None:
        self.cuda = LateCuda()
        super().__init__(CUDA, self.cuda)
        self.there: dict[int, torch.Tensor] = {}
        self.kept: list[tuple[int, LateStream]] = []
        self.n_sent = self.n_landed = 0
        self.changed = threading.Condition()

    def later(self, like: torch.Tensor, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        """A tensor that is NaN until the current stream has come to it."""
        found = torch.full_like(like, torch.nan)
        self.cuda.current_stream().work.append(lambda: found.copy_(make()))
        return found

    def compute(self, rows: torch.Tensor, first: int) -> torch.Tensor:
        """Twice the rows, made on the device when it comes to it."""
        assert id(rows) in self.there
        result = self.later(rows, lambda: 2 * rows + first)
        self.there[id(result)] = result
        return result

    def _is_on_host(self, tensor: torch.Tensor) -> bool:
        return id(tensor) not in self.there

    def _upload(self, rows: torch.Tensor) -> torch.Tensor:
        uploaded = self.later(rows, lambda: rows)
        self.there[id(uploaded)] = uploaded
        with self.changed:
            self.n_sent += 1
            self.changed.notify_all()
        return uploaded

    def _download(self, result: torch.Tensor) -> torch.Tensor:
        return self.later(result, lambda: result)

    def _keep_for(self, tensor: torch.Tensor, stream: LateStream) -> None:
        self.kept.append((id(tensor), stream))

    def land(self, copy: Copy) -> torch.Tensor:
        with self.changed:
            self.n_landed += 1
            self.changed.notify_all()
        return super().land(copy)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> LateCopies:
    copies = LateCopies()
    monkeypatch.setattr("relspace.rows.transform.copies_for", lambda device: copies)
    return copies


def _sources(folder: Path) -> dict[str, Any]:
    np.save(folder / "x.npy", X.numpy())
    return {
        "files": scan(folder / "x.npy"),
        "memory": ArrayRows(X),
        "code": GeneratedRows((300, 12), lambda start, stop: X[start:stop]),
    }


@pytest.mark.parametrize("place", ["files", "memory", "code"])
def test_nothing_is_used_before_it_is_there(late: LateCopies, tmp_path: Path, place: str) -> None:
    source = _sources(tmp_path)[place]
    found = collect_rows(source, late.compute, 12, torch.float32, memory_budget=20_000)
    n_blocks = late.n_sent
    assert n_blocks > 3
    step = rows_at_once(source, 12, 20_000, CPU)
    firsts = torch.arange(300) // step * step
    assert torch.equal(found, 2 * X + firsts[:, None])
    # Every tensor is kept for the stream that uses it besides its own.
    computing = late.cuda.current_stream()
    assert sum(stream is computing for _, stream in late.kept) == n_blocks
    assert sum(stream is late._outward for _, stream in late.kept) == n_blocks


@pytest.mark.parametrize("place", ["files", "memory"])
def test_the_next_block_is_on_its_way_and_the_last_is_taken_back_meanwhile(
    late: LateCopies, tmp_path: Path, place: str
) -> None:
    source = _sources(tmp_path)[place]
    n_blocks = len(range(0, 300, rows_at_once(source, 12, 20_000, CPU)))
    done = 0

    def compute(rows: torch.Tensor, first: int) -> torch.Tensor:
        nonlocal done
        done += 1
        with late.changed:
            sent = min(done + 1, n_blocks)
            assert late.changed.wait_for(lambda: late.n_sent >= sent, SECONDS)
            assert late.changed.wait_for(lambda: late.n_landed >= done - 1, SECONDS)
        return late.compute(rows, first)

    found = collect_rows(source, compute, 12, torch.float32, memory_budget=20_000)
    assert done == n_blocks
    assert bool(found.isfinite().all())


def test_a_store_is_written_from_results_that_have_landed(late: LateCopies, tmp_path: Path) -> None:
    from relspace.rows.output import Output
    from relspace.rows.transform import begin_output, write_rows

    source = _sources(tmp_path)["files"]
    writer = begin_output(Output(tmp_path / "out.zarr", chunk_rows=64), source, 12, {})
    result = write_rows(source, late.compute, writer)
    firsts = torch.arange(300) // 64 * 64
    assert torch.equal(result.read(0, 300), 2 * X + firsts[:, None])


def test_what_is_there_is_not_copied() -> None:
    copies = LateCopies()
    there = torch.zeros(3, 2)
    copies.there[id(there)] = there
    sent = copies.send(there)
    assert copies.receive(sent) is there
    here = torch.ones(3, 2)
    assert copies.land(copies.fetch(here)) is here
    assert not copies.kept


def test_a_cpu_is_handed_the_rows_themselves() -> None:
    copies = copies_for(CPU)
    assert type(copies) is DeviceCopies
    assert not copies.overlap
    assert copies.receive(copies.send(X)) is X
    assert copies.land(copies.fetch(X)) is X


def test_blocks_have_room_on_the_device_too(assume_free: Callable[..., None]) -> None:
    assume_free(10**9, 10**6)
    source = ArrayRows(X)
    on_host = rows_at_once(source, 40, None, CPU)
    assert on_host == 10**9 // 4 // bytes_per_row(source, 40)
    on_device = rows_at_once(source, 40, None, CUDA)
    assert 0 < on_device < on_host / 100
    # A budget is kept to in both; and where the device has less, it is what is free.
    assert rows_at_once(source, 40, 10**5, CUDA) < on_device
    assert on_device < rows_at_once(source, 40, 10**8, CUDA) <= 4 * on_device + 3
    assume_free(10**9, 10**3)
    assert rows_at_once(source, 40, 10**8, CUDA) <= 1


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "one like cpu, cuda or cuda:1"),
        ("cuda:77", "finds [0-9]+ CUDA devices"),
        ("", "one like cpu"),
    ],
)
def test_a_device_that_is_not_there_is_refused(device: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        choose_device(device)
    with pytest.raises(InvalidInputError, match=message):
        rs.Aligner().fit(X[:40]).to(device)


def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for found in (True, False):
        monkeypatch.setattr("torch.cuda.is_available", lambda found=found: found)
        assert choose_device("auto").type == ("cuda" if found else "cpu")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InvalidInputError, match="finds 2 CUDA devices"):
        choose_device("cuda:2")


def test_all_tensors_of_a_state_move() -> None:
    aligner = rs.Aligner(normalize="zscore+unit").fit(X[:40])
    for state in (aligner.normalization_, aligner.profile_, fit_normalization(X, "half-whiten")):
        moved = to_device(state, torch.device("meta"))
        for name, value in vars(moved).items():
            assert not isinstance(value, torch.Tensor) or value.device.type == "meta", name
    cut = rs.NormalizedCut(4).fit(X)
    palette = to_device(rs.Coloring().fit(cut).palette_, torch.device("meta"))
    assert {one.device.type for one in palette.tensors().values()} == {"meta"}


def test_what_is_moved_is_the_same_and_its_own() -> None:
    space = rs.align({"a": X, "b": -X.numpy()}, landmarks=50)
    moved = space.to("cpu")
    assert moved is not space
    assert torch.equal(moved["a"], space["a"])
    assert torch.equal(moved.transform("a", X), space.transform("a", X))
    assert np.array_equal(moved.distances("b", "a"), space.distances("b", "a"))
    cut = rs.NormalizedCut(4).fit(space)
    assert torch.equal(cut.to("cpu").transform("a", space["a"]), cut.transform("a", space["a"]))
    coloring = rs.Coloring().fit(cut)
    assert torch.equal(coloring.to("cpu").transform(cut["a"]), coloring.transform(cut["a"]))


def test_a_spatial_space_moves_too() -> None:
    maps = torch.randn(4, 5, 5, 6, generator=torch.Generator().manual_seed(0))
    features = rs.FeatureSet.from_arrays({"maps": maps}, layout="bhwc")
    space = rs.align({"a": features, "b": features.pool((3, 3))})
    moved = space.to("cpu")
    assert repr(moved) == repr(space)
    assert torch.equal(torch.as_tensor(moved["a"]), torch.as_tensor(space["a"]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int16])
def test_other_types_are_cast_block_by_block(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    given = (100 * X).to(dtype)
    aligner = rs.Aligner().fit(X[:40] * 100)
    expected = aligner.transform(given.float())
    largest = 0
    cast = torch.Tensor.to

    def watched(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal largest
        result = cast(tensor, *args, **kwargs)
        if tensor.dtype == dtype and result.dtype == torch.float32:
            largest = max(largest, len(tensor))
        return result

    monkeypatch.setattr("relspace.kernels.relative._ROWS_IN_CACHE", 32)
    monkeypatch.setattr(torch.Tensor, "to", watched)
    found = aligner.transform(given)
    assert 0 < largest <= 32
    assert found.dtype == (dtype if dtype.is_floating_point else torch.float32)
    tolerance = 0.0 if dtype == torch.int16 else 4e-3
    torch.testing.assert_close(found.float(), expected, atol=tolerance + 1e-6, rtol=0)


def test_the_command_takes_a_device(tmp_path: Path) -> None:
    rs.align({"a": X, "b": -X}, landmarks=50).save(tmp_path / "space.safetensors")
    np.save(tmp_path / "x.npy", X.numpy())
    arguments = ["transform", str(tmp_path / "space.safetensors"), "a", str(tmp_path / "x.npy")]

    def run(device: str, *more: str) -> Any:
        out = str(tmp_path / f"{device.replace(':', '')}.npy")
        return CliRunner().invoke(commands, [*arguments, "-o", out, "--device", device, *more])

    assert run("cpu").exit_code == 0
    assert np.load(tmp_path / "cpu.npy").shape == (300, 50)
    failed = run("cuda:77")
    assert failed.exit_code == 2
    assert "CUDA devices" in failed.output
    refused = run("cuda", "--scheduler", "tcp://nowhere:8786")
    assert refused.exit_code == 2
    assert "leave out --device" in refused.output


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("tf32", [True, False])
def test_a_gpu_gives_what_a_cpu_does(tmp_path: Path, dtype: torch.dtype, tf32: bool) -> None:
    n, width, m = 20_000, 96, 200
    tokens = torch.randn(n, width, generator=torch.Generator().manual_seed(0)).to(dtype)
    space = rs.align({"a": tokens[:500], "b": -tokens[:500]}, landmarks=m)
    expected = space.transform("a", tokens).double()
    there = space.to("cuda")
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        budget = 2**23
        found = {
            "memory": there.transform("a", tokens, memory_budget=budget),
            "device": there.transform("a", tokens.cuda(), memory_budget=budget).cpu(),
            "shards": there.transform("a", [tokens[:7000], tokens[7000:]], memory_budget=budget),
        }
        out = rs.Output(tmp_path / "out.zarr", memory_budget=budget, dtype="float32")
        found["store"] = there.transform("a", tokens, out=out).read(0, n)
        assert torch.backends.cuda.matmul.allow_tf32 == tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    tolerance = {torch.float16: 2e-3, torch.bfloat16: 1e-2, torch.float64: 1e-9}.get(dtype, 1e-4)
    for way, rows in found.items():
        assert rows.device.type == "cpu", way
        limit = 1e-4 if way == "store" and dtype == torch.float64 else tolerance
        torch.testing.assert_close(rows.double(), expected, atol=limit, rtol=0, msg=way)


@pytest.mark.gpu
@pytest.mark.parametrize("budget", [2**24, 2**26])
@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_a_gpu_takes_no_more_than_the_budget(budget: int, where: str) -> None:
    n, width, m = 100_000, 256, 256
    tokens = torch.randn(n, width, device=where)
    aligner = rs.Aligner().fit(tokens[:m]).to("cuda")
    aligner.transform(tokens[:1000])  # what libraries keep for themselves
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = aligner.transform(tokens, memory_budget=budget)
    torch.cuda.synchronize()
    held = result.nbytes if where == "cuda" else 0
    assert torch.cuda.max_memory_allocated() - before - held <= budget


@pytest.mark.gpu
def test_embedding_and_colours_on_a_gpu(tmp_path: Path) -> None:
    tokens = torch.randn(5000, 24, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "x.npy", tokens.numpy())
    cut = rs.NormalizedCut(4, n_landmarks=300).fit(tokens)
    coloring = rs.Coloring().fit(cut)
    embedded = cut.transform("features", tokens)
    there = cut.to("cuda").transform("features", tmp_path / "x.npy", memory_budget=2**20)
    torch.testing.assert_close(there, embedded, atol=1e-3, rtol=1e-3)
    colors = coloring.to("cuda").transform(embedded)
    torch.testing.assert_close(colors, coloring.transform(embedded), atol=1e-3, rtol=0)
    on_gpu = rs.NormalizedCut(4, n_landmarks=300).fit(tokens.cuda())
    assert on_gpu["features"].device.type == "cuda"
    rs.colors(on_gpu)
