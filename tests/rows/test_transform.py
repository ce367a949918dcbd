"""Streamed transforms: the same result, little memory, outputs that survive anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from tests.generators.fresh_process import run_fresh

import relspace as rs
from relspace.errors import FileFormatError, InvalidInputError, MemoryBudgetError, NonFiniteError
from relspace.features import scan
from relspace.rows.formats.memory import ArrayRows
from relspace.rows.formats.zarr import ZarrRows
from relspace.rows.ledger import ZarrLedger
from relspace.rows.output import Output, ZarrWriter, remove_output
from relspace.rows.source import GeneratedRows
from relspace.rows.transform import begin_output, write_rows
from relspace.space.aligner import RelativeRows

N, D = 500, 12
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
OUTPUTS = ["out.zarr", "out.npy"]


@pytest.fixture
def aligner() -> rs.Aligner:
    return rs.Aligner().fit(X[:40])


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("dtype", ["float16", "float32", None])
def test_output_holds_what_memory_would(
    aligner: rs.Aligner, tmp_path: Path, name: str, dtype: str | None
) -> None:
    ids = tuple(f"token {i}" for i in range(N))
    source = GeneratedRows((N, D), lambda start, stop: X[start:stop], ids=ids)
    out = Output(tmp_path / name, dtype=dtype, chunk_rows=64)
    result = aligner.transform(source, out=out)
    expected = aligner.transform(X)
    assert result.dtype == getattr(torch, dtype or "float32")
    tolerance = 1e-3 if dtype == "float16" else 1e-6
    np.testing.assert_allclose(result.read(0, N).float(), expected, atol=tolerance)
    if name.endswith(".zarr"):
        root = zarr.open_group(tmp_path / name, mode="r")
        assert root["rows"].chunks == (64, 40)
        assert tuple(root["ids"][...]) == ids == result.ids
        job = root.attrs["relspace"]["job"]
        assert job["aligner"]["sigma"] == aligner.bandwidth_.sigma
        assert set(root.attrs["relspace"]["versions"]) >= {"relspace", "torch", "zarr"}
    else:
        assert np.load(tmp_path / name).shape == (N, 40)
        assert result.ids == scan(tmp_path / name).ids == ids
        left = sorted(path.name for path in tmp_path.iterdir())
        assert left == [".out.npy.progress", "out.ids.json", "out.npy"]


def test_space_transforms_into_a_store(tmp_path: Path) -> None:
    space = rs.align({"a": X, "b": -X}, landmarks=30)
    result = space.transform("a", X, out=tmp_path / "a.zarr")
    assert np.array_equal(np.asarray(result), space.transform("a", X))
    assert scan(tmp_path / "a.zarr").shape == (N, 30)


def test_files_and_memory_maps_are_read_in_blocks(aligner: rs.Aligner, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    expected = aligner.transform(X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    from_map = aligner.transform(mapped, memory_budget=20_000)
    assert isinstance(from_map, np.ndarray)
    np.testing.assert_allclose(from_map, expected, atol=1e-6)
    from_file = aligner.transform(tmp_path / "x.npy", memory_budget=20_000)
    np.testing.assert_allclose(from_file, expected, atol=1e-6)


def test_own_columns_go_with_their_rows(aligner: rs.Aligner, tmp_path: Path) -> None:
    own = torch.full((N,), -1)
    own[:40] = torch.arange(40)
    relative = RelativeRows(aligner, own)
    expected = relative(torch.from_numpy(X))
    assert torch.equal(expected[:40].diagonal(), torch.zeros(40))
    out = Output(tmp_path / "out.zarr", chunk_rows=33)
    found = relative.row_map().write(ArrayRows(X), out).read(0, N)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_does_not_fit_says_to_write_it(
    aligner: rs.Aligner, assume_free: Callable[..., None], tmp_path: Path
) -> None:
    assume_free(50_000)
    for source in (X, GeneratedRows((N, D), lambda start, stop: X[start:stop])):
        with pytest.raises(MemoryBudgetError, match=r"out='aligned.zarr'"):
            aligner.transform(source)
    assert aligner.transform(X[:200], out=tmp_path / "out.zarr").shape == (200, 40)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_run_that_failed_goes_on_where_it_stopped(
    aligner: rs.Aligner, tmp_path: Path, name: str
) -> None:
    made: list[int] = []

    def source(fails_at: int) -> GeneratedRows:
        def make(start: int, stop: int) -> np.ndarray:
            if start == fails_at:
                raise OSError("the disk is gone")
            made.append(start)
            return X[start:stop]

        return GeneratedRows((N, D), make)

    out = Output(tmp_path / name, chunk_rows=50)
    with pytest.raises(OSError, match="the disk is gone"):
        aligner.transform(source(200), out=out)
    assert not (tmp_path / "out.npy").exists()
    with pytest.raises(InvalidInputError, match=r"source can't be identified .* resume='trust'"):
        aligner.transform(source(-1), out=out)
    made.clear()
    # A budget of another size does not change how the output is cut.
    again = Output(tmp_path / name, memory_budget=10**9, resume="trust")
    result = aligner.transform(source(-1), out=again)
    assert [start for start in made if start % 50 == 0 and start] == list(range(200, N, 50))
    whole = aligner.transform(source(-1), out=Output(tmp_path / f"whole-{name}", chunk_rows=50))
    assert torch.equal(result.read(0, N), whole.read(0, N))


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_run_that_was_done_is_found_done(aligner: rs.Aligner, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    first = aligner.transform(X, out=out).read(0, N)
    changed = out.stat().st_mtime_ns
    assert torch.equal(aligner.transform(X, out=out).read(0, N), first)
    assert out.stat().st_mtime_ns == changed
    with pytest.raises(InvalidInputError, match="another job"):
        aligner.transform(X + 1, out=out)


def test_a_file_that_was_changed_since_is_not_taken_for_the_output(
    aligner: rs.Aligner, tmp_path: Path
) -> None:
    out = tmp_path / "out.npy"
    first = aligner.transform(X, out=out).read(0, N)
    out.unlink()
    assert torch.equal(aligner.transform(X, out=out).read(0, N), first)
    np.save(out, X)
    os.utime(out, ns=(1, 1))
    with pytest.raises(InvalidInputError, match="exists"):
        aligner.transform(X, out=out)
    replaced = aligner.transform(X, out=Output(out, overwrite=True))
    assert torch.equal(replaced.read(0, N), first)


def test_damaged_rows_are_named_and_nothing_half_done_is_left(
    aligner: rs.Aligner, tmp_path: Path
) -> None:
    bad = X.copy()
    bad[300, 2] = np.nan
    with pytest.raises(NonFiniteError, match=r"row, column\) \(300, 2\)"):
        aligner.transform(bad, out=Output(tmp_path / "out.zarr", chunk_rows=100))
    ledger = ZarrLedger(zarr.open_group(tmp_path / "out.zarr", mode="r+"))
    assert sorted(ledger.finished()) == [0, 1, 2]
    assert not ledger.settled()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["file", "memory map", "shards", "link", "zarr"])
def test_an_output_that_is_an_input_is_refused_and_left_alone(
    kind: str, overwrite: bool, aligner: rs.Aligner, tmp_path: Path
) -> None:
    path = tmp_path / "x.npy"
    np.save(path, X)
    source: object = path
    out = path
    if kind == "memory map":
        source = np.load(path, mmap_mode="r")
    elif kind == "shards":
        source = [X[:3], path]
    elif kind == "link":
        out = tmp_path / "y.npy"
        out.symlink_to(path)
    elif kind == "zarr":
        source = out = tmp_path / "x.zarr"
        zarr.open_group(out, mode="w").create_array("features", data=X)
    with pytest.raises(InvalidInputError, match="one of the inputs"):
        aligner.transform(source, out=Output(out, overwrite=overwrite))
    np.testing.assert_array_equal(np.load(path), X)
    if kind == "zarr":
        np.testing.assert_array_equal(zarr.open_group(out, mode="r")["features"][...], X)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["out.zarr", "out.npy"])
def test_an_output_of_which_nothing_was_written_makes_way_for_another_job(
    name: str, aligner: rs.Aligner, tmp_path: Path
) -> None:
    bad = X.copy()
    bad[3, 2] = np.nan
    with pytest.raises(NonFiniteError):
        aligner.transform(bad, out=Output(tmp_path / name, chunk_rows=100))
    written = aligner.transform(X, out=Output(tmp_path / name, chunk_rows=100))
    np.testing.assert_array_equal(np.asarray(written.read(0, len(X))), aligner.transform(X))
    with pytest.raises(InvalidInputError, match="another job"):
        aligner.transform(X + 1, out=Output(tmp_path / name, chunk_rows=100))


def test_the_output_of_another_job_is_refused_or_replaced(
    aligner: rs.Aligner, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    aligner.transform(X, out=out)
    for other, source in ((rs.Aligner(density=0.1).fit(X[:40]), X), (aligner, X + 1)):
        with pytest.raises(InvalidInputError, match="another job; different are"):
            other.transform(source, out=out)
    replaced = aligner.transform(X + 1, out=Output(out, overwrite=True))
    np.testing.assert_allclose(replaced.read(0, N), aligner.transform(X + 1), atol=1e-6)
    np.save(tmp_path / "out.npy", X)
    with pytest.raises(InvalidInputError, match="exists"):
        aligner.transform(X, out=tmp_path / "out.npy")


def test_places_that_can_not_be_outputs_are_refused(aligner: rs.Aligner, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"must end in .zarr or .npy"):
        aligner.transform(X, out=tmp_path / "out.csv")
    with pytest.raises(InvalidInputError, match="dtype is 'int8'"):
        aligner.transform(X, out=Output(tmp_path / "out.zarr", dtype="int8"))
    (tmp_path / "file.zarr").write_text("x")
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "folder.zarr" / "photo.png").write_text("x")
    zarr.save(str(tmp_path / "other.zarr"), a=X)
    for name in ("file.zarr", "folder.zarr", "other.zarr"):
        with pytest.raises(FileFormatError, match=name):
            aligner.transform(X, out=tmp_path / name)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_full_disk_is_an_error_and_the_run_goes_on_later(
    aligner: rs.Aligner, tmp_path: Path, name: str
) -> None:
    rows = 100 if name.endswith(".npy") else 400
    script = (
        "import resource, signal, sys, numpy, relspace\n"
        "from relspace.rows.output import Output\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))\n"
        "X = numpy.load(sys.argv[1])\n"
        f"relspace.Aligner().fit(X[:40]).transform(X, out=Output(sys.argv[2], chunk_rows={rows}))"
    )
    np.save(tmp_path / "x.npy", X)
    failed = run_fresh(script, tmp_path / "x.npy", tmp_path / name)
    assert failed.returncode == 1
    assert "File too large" in failed.stderr
    result = aligner.transform(X, out=Output(tmp_path / name, chunk_rows=rows))
    np.testing.assert_allclose(result.read(0, N), aligner.transform(X), atol=1e-6)


@pytest.mark.parametrize("name", OUTPUTS)
def test_values_that_the_type_does_not_hold_are_refused_by_row_and_value(
    aligner: rs.Aligner, tmp_path: Path, name: str
) -> None:
    source = ArrayRows(X)

    def large(rows: torch.Tensor, first: int) -> torch.Tensor:
        made = torch.zeros(len(rows), 3)
        if first == 200:
            made[17, 2] = -70_000.0
        return made

    out = Output(tmp_path / name, dtype="float16", chunk_rows=100)
    said = r"result is -70000 in row 217, column 2, and float16 holds .* 65504: .*dtype='float32'"
    with begin_output(out, source, 3, {}) as writer, pytest.raises(NonFiniteError, match=said):
        write_rows(source, large, writer)
    with begin_output(replace(out, overwrite=True, dtype="float32"), source, 3, {}) as writer:
        assert float(write_rows(source, large, writer).read(217, 218)[0, 2]) == -70_000
    with (
        begin_output(replace(out, overwrite=True), source, 3, {}) as writer,
        pytest.raises(NonFiniteError, match="result is nan in row 0, column 0"),
    ):
        write_rows(source, lambda rows, first: torch.full((len(rows), 3), torch.nan), writer)


def test_the_columns_of_outputs_are_called_what_they_are(tmp_path: Path) -> None:
    space = rs.align({"a": X}, landmarks=30)
    space.transform("a", X, out=tmp_path / "aligned.zarr")
    cut = rs.NormalizedCut(3, n_landmarks=60).fit(X, out=tmp_path / "cut.zarr")
    rs.colors(cut, out=tmp_path / "rgb.zarr")
    for name, columns in (("aligned", "landmark"), ("cut", "component"), ("rgb", "channel")):
        rows = zarr.open_group(tmp_path / f"{name}.zarr", mode="r")["rows"]
        assert rows.metadata.dimension_names == ("item", columns)


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("ids", [tuple(range(N)), tuple(map(str, range(N)))])
def test_ids_of_outputs_keep_their_type(
    aligner: rs.Aligner, tmp_path: Path, name: str, ids: tuple[int | str, ...]
) -> None:
    source = ArrayRows(X, ids)
    assert aligner.transform(source, out=tmp_path / name).ids == ids
    # Resumed, and with other ids refused.
    assert aligner.transform(source, out=tmp_path / name).ids == ids
    with pytest.raises(InvalidInputError, match="different are ids"):
        aligner.transform(ArrayRows(X, ids[::-1]), out=tmp_path / name)
    with pytest.raises(InvalidInputError, match="different are ids"):
        aligner.transform(X, out=tmp_path / name)
    assert aligner.transform(X, out=Output(tmp_path / name, overwrite=True)).ids is None


def test_settings_of_outputs_that_are_wrong_are_refused(
    aligner: rs.Aligner, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match=r"resume is 'always'; .* identified, trust"):
        aligner.transform(X, out=Output(tmp_path / "a.zarr", resume="always"))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="beyond 64 bits"):
        aligner.transform(ArrayRows(X[:2], (1, 2**70)), out=tmp_path / "b.zarr")
    with pytest.raises(InvalidInputError, match=r"must end in .zarr or .npy, a URL in .zarr"):
        aligner.transform(X, out="memory://a/out.npy")


def test_a_worker_that_comes_late_does_not_write_into_the_output_of_another_job(
    aligner: rs.Aligner, tmp_path: Path
) -> None:
    out = Output(tmp_path / "out.zarr", chunk_rows=100)
    with begin_output(out, ArrayRows(X), 3, {"operation": "first"}) as writer:
        assert isinstance(writer, ZarrWriter)
        digest = writer.digest
        ZarrWriter.join(str(out.path), digest).write(slice(0, 100), torch.zeros(100, 3))
    overwriting = replace(out, overwrite=True)
    with begin_output(overwriting, ArrayRows(X), 3, {"operation": "second"}) as writer:
        for rows in writer.missing():
            writer.write(rows, torch.ones(rows.stop - rows.start, 3))
        assert isinstance(writer.finish(), ZarrRows)
    with pytest.raises(InvalidInputError, match="became the output of another job"):
        ZarrWriter.join(str(out.path), digest)


def test_an_output_with_holes_is_not_given_out(aligner: rs.Aligner, tmp_path: Path) -> None:
    out = Output(tmp_path / "out.zarr", chunk_rows=100)
    with begin_output(out, ArrayRows(X), 3, {}) as writer:
        writer.write(slice(0, 100), torch.zeros(100, 3))
        with pytest.raises(FileFormatError, match="lacks 4 chunks, the first with rows 100 to 200"):
            writer.finish()


def test_rows_that_are_known_to_have_changed_are_not_vouched_for(
    aligner: rs.Aligner, tmp_path: Path
) -> None:
    np.save(tmp_path / "s.npy", X)
    out = Output(tmp_path / "out.zarr", resume="trust")
    first = aligner.transform(scan(tmp_path / "s.npy"), out=out).read(0, N)
    again = aligner.transform(scan(tmp_path / "s.npy"), out=out).read(0, N)
    assert torch.equal(again, first)
    np.save(tmp_path / "s.npy", X[::-1])
    with pytest.raises(InvalidInputError, match="different are source"):
        aligner.transform(scan(tmp_path / "s.npy"), out=out)


@pytest.mark.parametrize("name", ["rows", "ledger", None])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_group_that_does_not_say_that_it_was_begun_is_somebody_elses(
    name: str | None, overwrite: bool, aligner: rs.Aligner, tmp_path: Path
) -> None:
    group = zarr.open_group(tmp_path / "out.zarr", mode="w")
    if name is not None:
        group.create_array(name, data=X)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(FileFormatError, match="something else: name another output"):
        aligner.transform(X, out=Output(tmp_path / "out.zarr", overwrite=overwrite))
    with pytest.raises(FileFormatError, match="something else: name another output"):
        remove_output(tmp_path / "out.zarr")
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_an_output_that_was_begun_or_half_removed_is_begun_again(
    aligner: rs.Aligner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.zarr"

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ZarrLedger, "create", killed)
        with pytest.raises(KeyboardInterrupt):
            aligner.transform(X, out=out)
    with pytest.raises(FileFormatError, match="unfinished or damaged: row 0 is missing"):
        scan(out).read(0, 1)
    expected = aligner.transform(X, out=out).read(0, N)
    with monkeypatch.context() as patched:
        patched.setattr("relspace.rows.groups.file_system", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_output(out)
    assert torch.equal(aligner.transform(X, out=out).read(0, N), expected)
    remove_output(out)
    assert not out.exists()


def test_a_chunk_of_an_output_that_is_gone_is_not_read_as_nan(
    aligner: rs.Aligner, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    rows = aligner.transform(X, out=Output(out, chunk_rows=100))
    (out / "rows" / "c" / "1" / "0").unlink()
    assert torch.isfinite(rows.read(0, 100)).all()
    for found in (rows, scan(out)):
        with pytest.raises(FileFormatError, match=r"out\.zarr is .*damaged: row 100 is missing"):
            found.read(50, 250)
        with pytest.raises(FileFormatError, match="row 100 is missing"):
            np.asarray(found)


def test_a_chunk_of_an_output_that_was_damaged_is_refused_by_name(
    aligner: rs.Aligner, tmp_path: Path
) -> None:
    rows = aligner.transform(X, out=Output(tmp_path / "out.zarr", chunk_rows=100))
    chunk = tmp_path / "out.zarr" / "rows" / "c" / "1" / "0"
    content = chunk.read_bytes()
    for at in range(0, len(content), len(content) // 20):
        chunk.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(FileFormatError, match=r"out\.zarr can't be read as Zarr"):
            rows.read(100, 200)


def test_a_file_of_something_else_where_ids_would_go_is_kept(
    aligner: rs.Aligner, tmp_path: Path
) -> None:
    (tmp_path / "out.ids.json").write_text('{"mine": 1}')
    with pytest.raises(FileFormatError, match=r"out\.ids\.json, where ids .* something else"):
        aligner.transform(X, out=Output(tmp_path / "out.npy", overwrite=True))
    assert (tmp_path / "out.ids.json").read_text() == '{"mine": 1}'


def test_rows_that_replace_others_never_have_their_ids(
    aligner: rs.Aligner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def source(shift: int) -> GeneratedRows:
        ids = tuple(range(shift, N + shift))
        return GeneratedRows((N, D), lambda start, stop: X[start:stop] + shift, ids=ids)

    aligner.transform(source(0), out=tmp_path / "out.npy")
    replace_path = Path.replace
    seen: list[tuple[int, ...] | None] = []

    def replacing(self: Path, target: Path) -> Path:
        seen.append(scan(tmp_path / "out.npy").ids)
        found = replace_path(self, target)
        seen.append(scan(tmp_path / "out.npy").ids)
        return found

    monkeypatch.setattr(Path, "replace", replacing)
    aligner.transform(source(1), out=Output(tmp_path / "out.npy", overwrite=True))
    assert seen[:2] == [None, None]
    assert scan(tmp_path / "out.npy").ids == tuple(range(1, N + 1))
