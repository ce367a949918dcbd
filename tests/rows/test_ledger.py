"""Ledgers: what is cut short counts for nothing, and nothing is resumed that isn't the same job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from relspace.errors import FileFormatError, InvalidInputError
from relspace.rows.identity import Identity, hash_array
from relspace.rows.ledger import (
    FileLedger,
    Ledger,
    ZarrLedger,
    checksum_of,
    job_header,
    refuse_another_job,
)

X = np.arange(12.0).reshape(4, 3)
JOB = {"operation": "transform", "source": hash_array(X)}
HEADER = job_header("rows", 2, JOB)
CHECKSUMS = {number: checksum_of(X[number : number + 1]) for number in range(4)}


def _file_ledger(folder: Path) -> Ledger:
    path = folder / "ledger"
    if not path.exists():
        FileLedger(path).begin(HEADER)
    return FileLedger(path)


def _zarr_ledger(folder: Path) -> Ledger:
    if not (folder / "out.zarr").exists():
        ZarrLedger.create(zarr.create_group(str(folder / "out.zarr")), 4)
    return ZarrLedger(zarr.open_group(str(folder / "out.zarr"), mode="r+"))


@pytest.mark.parametrize("open_ledger", [_file_ledger, _zarr_ledger])
def test_chunks_are_noted_by_number_and_found_again(open_ledger, tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    assert (ledger.finished(), ledger.settled()) == ({}, "")
    for number in (3, 1, 1):
        ledger.finish(number, CHECKSUMS[number])
    assert open_ledger(tmp_path).finished() == {1: CHECKSUMS[1], 3: CHECKSUMS[3]}
    ledger.forget(1)
    assert ledger.finished() == open_ledger(tmp_path).finished() == {3: CHECKSUMS[3]}
    ledger.settle(CHECKSUMS[0])
    assert open_ledger(tmp_path).settled() == CHECKSUMS[0]
    assert open_ledger(tmp_path).finished() == {3: CHECKSUMS[3]}


def test_a_line_that_was_cut_short_counts_for_nothing(tmp_path: Path) -> None:
    ledger = _file_ledger(tmp_path)
    for number in range(3):
        ledger.finish(number, CHECKSUMS[number])
    content = (tmp_path / "ledger").read_bytes()
    ends = [at + 1 for at, byte in enumerate(content) if byte == ord("\n")]
    for length in range(len(content) + 1):
        (tmp_path / "ledger").write_bytes(content[:length])
        found = FileLedger(tmp_path / "ledger")
        n_whole = sum(end <= length for end in ends)
        assert (found.header == HEADER) == (n_whole > 0)
        assert sorted(found.finished()) == list(range(max(0, n_whole - 1)))
        if n_whole:
            found.finish(9, CHECKSUMS[3])
            assert 9 in FileLedger(tmp_path / "ledger").finished()


def test_other_values_have_another_checksum() -> None:
    assert checksum_of(X[2:3] + 1e-12) != CHECKSUMS[2]
    assert checksum_of(X, X[:1]) != checksum_of(X[:1], X)


def refuse(job: dict[str, object], **given: object) -> None:
    refuse_another_job("out.zarr", HEADER, job, format_version=2, **given)


def test_the_same_job_is_resumed() -> None:
    refuse(dict(JOB))
    refuse({"source": hash_array(X)}, partly=True)


def test_another_job_is_refused_by_what_differs() -> None:
    with pytest.raises(InvalidInputError, match=r"different are source \(values\): name another"):
        refuse({**JOB, "source": hash_array(X + 1)})
    with pytest.raises(InvalidInputError, match=r"source \(shape\)"):
        refuse({**JOB, "source": hash_array(X[1:])})
    with pytest.raises(InvalidInputError, match="different are operation, width"):
        refuse({**JOB, "operation": "colors", "width": 3})
    with pytest.raises(InvalidInputError, match="different are operation"):
        refuse({"source": hash_array(X)})
    with pytest.raises(FileFormatError, match=r"version 2 of its format.* version 3"):
        refuse_another_job("out.zarr", HEADER, JOB, format_version=3)


def test_what_can_not_be_identified_is_resumed_only_when_asked_to() -> None:
    unknown = Identity("unidentified", "", {"reason": "it is code", "shape": [4, 3]})
    with pytest.raises(InvalidInputError, match=r"can't be identified \(it is code\).*'trust'"):
        refuse({**JOB, "source": unknown})
    trusted = {**unknown.detail, "dtype": "float64"}
    refuse({**JOB, "source": Identity("unidentified", "", trusted)}, resume="trust")
    with pytest.raises(InvalidInputError, match=r"different are source \(values\)"):
        refuse({**JOB, "source": hash_array(X + 1)}, resume="trust")
    wrong = Identity("unidentified", "", {**trusted, "shape": [5, 3]})
    with pytest.raises(InvalidInputError, match=r"source \(shape\)"):
        refuse({**JOB, "source": wrong}, resume="trust")
