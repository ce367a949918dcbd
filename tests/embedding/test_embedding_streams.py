"""Embeddings and colours of tokens that are read in blocks and written as they are made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
import zarr

import relspace as rs
from relspace._core.archive import read_archive, write_archive
from relspace.embedding.extension import RotatedRows
from relspace.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    MemoryBudgetError,
    NonFiniteError,
)
from relspace.features import scan
from relspace.rows.registry import gives_arrays
from relspace.rows.source import GeneratedRows, RowSource

N, D, K = 3000, 12, 4


def tokens(seed: int = 0) -> np.ndarray:
    """Tokens around five centres."""
    rng = np.random.default_rng(seed)
    centers = 2 * np.random.default_rng(9).normal(size=(5, D))
    return (centers[rng.integers(5, size=N)] + rng.normal(size=(N, D))).astype(np.float32)


X = tokens()


def _saved(folder: Path) -> Path:
    np.save(folder / "x.npy", X)
    return folder / "x.npy"


def _zarr(folder: Path) -> Path:
    group = zarr.create_group(str(folder / "x.zarr"))
    group.create_array("features", data=X, chunks=(700, D))
    return folder / "x.zarr"


KINDS: dict[str, Callable[[Path], object]] = {
    "npy file": _saved,
    "memory map": lambda folder: np.load(_saved(folder), mmap_mode="r"),
    "Zarr": _zarr,
    "shards": lambda folder: [X[:1100], X[1100:1101], torch.from_numpy(X[1101:])],
    "generated": lambda folder: GeneratedRows((N, D), lambda start, stop: X[start:stop]),
    "layer": lambda folder: rs.FeatureSet.from_arrays({"last": X})["last"],
    "Dask array": lambda folder: pytest.importorskip("dask.array").from_array(X, chunks=(900, 5)),
}


@pytest.fixture(scope="module")
def cut() -> rs.NormalizedCut:
    return rs.NormalizedCut(K, n_landmarks=200).fit(torch.from_numpy(X))


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_source_is_embedded_and_colored_as_the_array_is(
    cut: rs.NormalizedCut, kind: str, tmp_path: Path
) -> None:
    source = KINDS[kind](tmp_path)
    out = rs.Output(tmp_path / "cut.zarr", chunk_rows=500)
    found = rs.NormalizedCut(K, n_landmarks=200).fit(source, out=out, memory_budget=500_000)
    written = found["features"]
    assert isinstance(written, RowSource)
    assert torch.equal(found.eigenvalues_, cut.eigenvalues_)
    torch.testing.assert_close(written.read(0, N), cut["features"], atol=1e-6, rtol=1e-5)
    held = rs.NormalizedCut(K, n_landmarks=200).fit(source)
    assert isinstance(held["features"], np.ndarray) == gives_arrays(source)
    np.testing.assert_allclose(held["features"], cut["features"], atol=1e-6, rtol=1e-5)
    new = np.asarray(found.transform("features", source))
    np.testing.assert_allclose(new, cut.transform("features", X), atol=1e-6, rtol=1e-5)
    expected = rs.colors(cut)["features"]
    rgb = rs.colors(found, out=tmp_path / "rgb.npy", memory_budget=100_000)["features"]
    torch.testing.assert_close(rgb.read(0, N), expected, atol=2e-5, rtol=0)
    np.testing.assert_allclose(rs.colors(found)["features"], expected, atol=2e-5)


@pytest.mark.parametrize("name", ["out.zarr", "out.npy"])
@pytest.mark.parametrize("dtype", ["float16", None])
def test_new_tokens_are_embedded_and_colored_into_files(
    cut: rs.NormalizedCut, tmp_path: Path, name: str, dtype: str | None
) -> None:
    tolerance = 2e-3 if dtype else 1e-6
    ids = tuple(f"token {i}" for i in range(N))
    source = GeneratedRows((N, D), lambda start, stop: X[start:stop], ids=ids)
    out = rs.Output(tmp_path / name, dtype=dtype, chunk_rows=700)
    embedding = cut.transform("features", source, out=out)
    expected = cut["features"]
    torch.testing.assert_close(embedding.read(0, N).float(), expected, atol=tolerance, rtol=1e-3)
    coloring = rs.Coloring().fit(cut)
    rgb = coloring.transform(embedding, out=tmp_path / f"rgb-{name}")
    torch.testing.assert_close(
        rgb.read(0, N).float(), coloring.colors_["features"], atol=2e-3, rtol=0
    )
    if name.endswith(".zarr"):
        root = zarr.open_group(tmp_path / name, mode="r")
        assert tuple(root["ids"][...]) == ids
        job = root.attrs["relspace"]["job"]
        assert job["operation"] == "normalized cut"
        assert job["cut"]["n_landmarks"] == 200
        assert rgb.ids == ids
        in_memory = coloring.transform(tmp_path / name)
        torch.testing.assert_close(in_memory, rgb.read(0, N), atol=tolerance, rtol=1e-3)


def test_several_sets_go_to_files_of_their_own(tmp_path: Path) -> None:
    sets = {"a": X, "b": tokens(1)[:2000] + 1}
    held = rs.NormalizedCut(K, n_landmarks=200).fit(sets)
    streams = {"a": _saved(tmp_path), "b": GeneratedRows((2000, D), lambda i, j: sets["b"][i:j])}
    out = {name: tmp_path / f"{name}.zarr" for name in sets}
    found = rs.NormalizedCut(K, n_landmarks=200).fit(streams, out=out)
    rgb = rs.colors(found, out={name: tmp_path / f"{name}-rgb.zarr" for name in sets})
    for name, one in sets.items():
        np.testing.assert_allclose(
            scan(out[name]).read(0, len(one)), held[name], atol=1e-6, rtol=1e-5
        )
        np.testing.assert_allclose(rgb[name].read(0, len(one)), rs.colors(held)[name], atol=2e-5)
    with pytest.raises(InvalidTypeError, match="one output and there are 2 sets"):
        rs.NormalizedCut(K).fit(sets, out=tmp_path / "c.zarr")
    with pytest.raises(InvalidInputError, match=r"out names 'a'; the sets are 'a', 'b'"):
        rs.colors(held, out={"a": tmp_path / "c.zarr"})


class CutOffError(Exception):
    """What a source raises in the middle of a run."""


def stopping(at: int, made: list[int] | None = None) -> GeneratedRows:
    """Rows of X whose reading fails from some row on, and which notes what was read."""

    def make(start: int, stop: int) -> np.ndarray:
        # Single rows are those of the graph's nodes.
        if stop - start > 100:
            if start <= at < stop:
                raise CutOffError
            if made is not None:
                made.append(start)
        return X[start:stop]

    return GeneratedRows((N, D), make)


@pytest.mark.parametrize("name", ["out.zarr", "out.npy"])
def test_a_fit_that_was_cut_off_goes_on_to_the_same_bits(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(source: RowSource, folder: str) -> rs.NormalizedCut:
        out = rs.Output(tmp_path / folder / name, chunk_rows=512, resume="trust")
        return rs.NormalizedCut(K, n_landmarks=200).fit(
            source, out=out, memory_budget=250_000, checkpoint=tmp_path / folder / "pass"
        )

    (tmp_path / "whole").mkdir()
    whole = fit(stopping(N), "whole")
    (tmp_path / "parts").mkdir()
    with pytest.raises(CutOffError):
        fit(stopping(2500), "parts")
    made: list[int] = []
    rotated = 0

    def cut_off(self: RotatedRows, rows: torch.Tensor, first: int | None) -> torch.Tensor:
        nonlocal rotated
        rotated += 1
        if rotated == 3:
            raise CutOffError
        return rotate(self, rows, first)

    rotate = RotatedRows.__call__
    with monkeypatch.context() as patched:
        patched.setattr(RotatedRows, "__call__", cut_off)
        with pytest.raises(CutOffError):
            fit(stopping(N, made), "parts")
    # Every token is extended once.
    assert made == [2048, 2560]
    parts = fit(stopping(-1, made), "parts")
    assert made == [2048, 2560]
    assert torch.equal(parts.rotation_, whole.rotation_)
    assert torch.equal(parts["features"].read(0, N), whole["features"].read(0, N))
    # What is done is found done, and nothing else is left.
    assert torch.equal(fit(stopping(-1, made), "parts").rotation_, whole.rotation_)
    assert made == [2048, 2560]
    left = {path.name for path in (tmp_path / "parts").iterdir()}
    assert left - {".out.npy.progress"} == {name, "pass"}
    with pytest.raises(InvalidInputError, match="checkpoint of another job"):
        rs.NormalizedCut(K + 1, n_landmarks=200).fit(
            stopping(N), out=tmp_path / "o.zarr", checkpoint=tmp_path / "parts" / "pass"
        )
    with pytest.raises(InvalidInputError, match=r"checkpoint is for .* give out="):
        rs.NormalizedCut(K).fit(X, checkpoint=tmp_path / "pass")
    with pytest.raises(InvalidInputError, match=r"client is for .* give out="):
        rs.NormalizedCut(K).fit(X, client=object())
    with pytest.raises(InvalidInputError, match=r"client is for .* give out="):
        rs.Coloring().fit(whole, client=object())
    (tmp_path / "damaged").write_bytes(b"x")
    with pytest.raises(FileFormatError, match="damaged"):
        rs.NormalizedCut(K).fit(X, out=tmp_path / "o.zarr", checkpoint=tmp_path / "damaged")


def test_what_another_job_left_beside_an_output_is_replaced(tmp_path: Path) -> None:
    out = rs.Output(tmp_path / "cut.zarr", chunk_rows=512)
    with pytest.raises(CutOffError):
        rs.NormalizedCut(K + 1, n_landmarks=200).fit(stopping(1500), out=out)
    assert (tmp_path / ".cut.extension.zarr").exists()
    found = rs.NormalizedCut(K, n_landmarks=200).fit(stopping(N), out=out)
    assert found["features"].shape == (N, K)
    made: list[int] = []
    with pytest.raises(InvalidInputError, match="another job; different are shape"):
        rs.NormalizedCut(K + 1, n_landmarks=200).fit(stopping(N, made), out=out)
    # Before tokens are extended.
    assert made == []
    assert [path.name for path in tmp_path.iterdir()] == ["cut.zarr"]


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_what_was_half_removed_is_made_again(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = str(tmp_path) if kind == "file" else f"memory://{tmp_path.name}"
    out = rs.Output(f"{place}/cut.zarr", chunk_rows=512, resume="trust")
    cut = rs.NormalizedCut(K, n_landmarks=200)
    system = type(fsspec.filesystem(kind))
    removed: list[str] = []
    remove = system.rm

    def cut_off(self: object, path: str, *given: object, **named: object) -> None:
        remove(self, path, *given, **named)
        removed.append(path)
        raise CutOffError

    with monkeypatch.context() as patched:
        patched.setattr(system, "rm", cut_off)
        with pytest.raises(CutOffError):
            cut.fit(stopping(N), out=out)
    assert len(removed) == 1
    expected = scan(out.path).read(0, N)
    assert torch.equal(cut.fit(stopping(N), out=out)["features"].read(0, N), expected)


@pytest.mark.parametrize("what", ["embedding", "colors"])
def test_an_output_that_was_cut_off_goes_on_to_the_same_bits(
    cut: rs.NormalizedCut, tmp_path: Path, what: str
) -> None:
    rows = np.asarray(cut["features"])
    coloring = rs.Coloring().fit(cut)

    def run(at: int, place: Path, made: list[int] | None = None) -> RowSource:
        out = rs.Output(place, chunk_rows=500, resume="trust")
        if what == "embedding":
            return cut.transform("features", stopping(at, made), out=out)

        def make(start: int, stop: int) -> np.ndarray:
            stopping(at, made).read(start, stop)
            return rows[start:stop]

        return coloring.transform(GeneratedRows(rows.shape, make), out=out)

    whole = run(N, tmp_path / "whole.zarr")
    with pytest.raises(CutOffError):
        run(1700, tmp_path / "parts.zarr")
    made: list[int] = []
    assert torch.equal(run(N, tmp_path / "parts.zarr", made).read(0, N), whole.read(0, N))
    assert made == [1500, 2000, 2500]
    # The fitted state belongs to the job, and what was saved and loaded is the same state.
    loaded = rs.NormalizedCut.load(cut.save(tmp_path / "cut.safetensors"))
    other = rs.NormalizedCut(K, n_landmarks=200, random_state=1).fit(X)
    if what == "embedding":
        trusted = rs.Output(tmp_path / "parts.zarr", resume="trust")
        loaded.transform("features", stopping(N), out=trusted)
        with pytest.raises(InvalidInputError, match="another job; different are cut"):
            other.transform("features", stopping(N), out=tmp_path / "parts.zarr")
    else:
        with pytest.raises(InvalidInputError, match="another job; different are coloring"):
            rs.Coloring(quantile=0.1).fit(cut).transform(rows, out=tmp_path / "parts.zarr")


def test_what_was_written_is_not_a_part_of_the_saved_file(tmp_path: Path) -> None:
    cut = rs.NormalizedCut(K, n_landmarks=200).fit(X, out=tmp_path / "cut.zarr")
    coloring = rs.Coloring().fit(cut, out=tmp_path / "rgb.zarr")
    loaded = rs.NormalizedCut.load(cut.save(tmp_path / "cut.safetensors"))
    with pytest.raises(InvalidInputError, match=r"'features' was written .*scan"):
        loaded["features"]
    found = loaded.transform("features", torch.from_numpy(X[:5]))
    torch.testing.assert_close(found, cut["features"].read(0, 5), atol=1e-6, rtol=1e-5)
    again = rs.Coloring.load(coloring.save(tmp_path / "coloring.safetensors"))
    assert again.colors_ == {}
    rgb = again.transform(tmp_path / "cut.zarr")
    torch.testing.assert_close(rgb, coloring.colors_["features"].read(0, N), atol=2e-5, rtol=0)


def test_what_does_not_fit_says_to_write_it(
    cut: rs.NormalizedCut, assume_free: Callable[..., None], tmp_path: Path
) -> None:
    source = stopping(N)
    small = rs.NormalizedCut(K, n_landmarks=20)
    assume_free(30_000)
    with pytest.raises(MemoryBudgetError, match=r"embedding of 3000 .*as it is made: out="):
        small.fit(source)
    with pytest.raises(MemoryBudgetError, match="result of 3000 rows and 4 columns"):
        cut.transform("features", source)
    with pytest.raises(MemoryBudgetError, match=r"colours of 3000 .*as they are made: out="):
        rs.colors(cut)
    assert small.fit(source, out=tmp_path / "cut.npy")["features"].shape == (N, K)


def test_damaged_rows_of_a_source_are_named(cut: rs.NormalizedCut, tmp_path: Path) -> None:
    bad = X.copy()
    bad[2345, 7] = np.nan
    source = GeneratedRows((N, D), lambda start, stop: bad[start:stop])
    with pytest.raises(NonFiniteError, match=r"\(2345, 7\)"):
        cut.transform("features", source, out=tmp_path / "out.zarr")
    with pytest.raises(NonFiniteError, match="2345"):
        rs.NormalizedCut(K, n_landmarks=20).fit(source)
    with pytest.raises(NonFiniteError, match=r"features holds 1 NaN .* \(2345, 7\)"):
        rs.NormalizedCut(K, n_landmarks=N).fit(source)
    with pytest.raises(InvalidInputError, match=r"X has 12 columns; .* fitted on 3"):
        rs.NormalizedCut(K).fit(X[:100, :3]).transform("features", stopping(N))
    with pytest.raises(InvalidInputError, match=r"X has 12 components; .* fitted on 4"):
        rs.Coloring().fit(cut).transform(stopping(N), out=tmp_path / "rgb.zarr")


def test_written_embeddings_are_cut_into_segments(
    cut: rs.NormalizedCut, tmp_path: Path, assume_free: Callable[..., None]
) -> None:
    written = rs.NormalizedCut(K, n_landmarks=200).fit(X, out=tmp_path / "cut.zarr")
    segments = rs.kway(written.embedding_, 5)["features"]
    assert float((segments == rs.kway(cut.embedding_, 5)["features"]).double().mean()) > 0.999
    assume_free(30_000)
    with pytest.raises(MemoryBudgetError, match="cutting 3000 tokens into 5 segments"):
        rs.kway(written.embedding_, 5)


def test_dask_arrays_stay_lazy(cut: rs.NormalizedCut) -> None:
    da = pytest.importorskip("dask.array")
    lazy = cut.transform("features", da.from_array(X, chunks=(900, 5)))
    coloring = rs.Coloring().fit(cut)
    rgb = coloring.transform(lazy)
    assert isinstance(lazy, da.Array)
    assert isinstance(rgb, da.Array)
    assert (lazy.shape, rgb.shape) == ((N, K), (N, 3))
    np.testing.assert_allclose(rgb.compute(), coloring.colors_["features"], atol=2e-5)


def test_a_file_of_results_is_not_overwritten(tmp_path: Path) -> None:
    written = rs.NormalizedCut(K, n_landmarks=100).fit(X[:200], out=tmp_path / "cut.npy")
    coloring = rs.Coloring().fit(written, out=tmp_path / "rgb.npy")
    for fitted, name in ((written, "cut.npy"), (coloring, "rgb.npy")):
        with pytest.raises(InvalidInputError, match=f"path is .*{name}"):
            fitted.save(tmp_path / name)
    assert np.load(tmp_path / "cut.npy").shape == (200, K)


def test_a_sample_of_many_tokens_gives_nearly_the_same_colors(
    cut: rs.NormalizedCut, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = rs.Coloring().fit(cut)
    monkeypatch.setattr("relspace.embedding.fit_palette._SAMPLED_ITEMS", 1500)
    sampled = rs.Coloring().fit(cut)
    apart = (sampled.colors_["features"] - exact.colors_["features"]).abs()
    # Only what lies at the edge of the range of colours may differ much.
    assert 0 < float(apart.quantile(0.95)) < 0.03
    assert sampled.rank_correlation_ == pytest.approx(exact.rank_correlation_, abs=0.02)


def test_sums_over_tokens_that_changed_are_refused(tmp_path: Path) -> None:
    """What lies between the nodes of the graph is told by the tokens' identity only."""

    def fit(tokens: np.ndarray, name: str) -> rs.NormalizedCut:
        given = {"out": tmp_path / name, "checkpoint": tmp_path / "pass"}
        return rs.NormalizedCut(K, n_landmarks=200).fit(tokens, **given)

    nodes = fit(X, "a.zarr").graph_.nodes.points.shape[0]
    changed = [X.copy() for _ in range(3)]
    # Of three rows one at least is no node, of 200 in 3,000.
    for row, one in enumerate(changed):
        one[1501 + row] += 1e-3
    assert nodes == 200
    for one in changed:
        for name, said in (("a.zarr", "source"), ("b.zarr", "tokens of features")):
            with pytest.raises(InvalidInputError, match=rf"{said} \(values\)"):
                fit(one, name)
    tensors, metadata = read_archive(tmp_path / "pass", "pass over the tokens")
    tensors["total"] += 1
    write_archive(tmp_path / "pass", metadata.pop("kind"), tensors, metadata)
    with pytest.raises(FileFormatError, match="damaged, or of an older version"):
        fit(X, "a.zarr")
