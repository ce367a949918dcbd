"""Ids beside .npy files: they keep their type, and are never those of other rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from relspace.errors import FileFormatError
from relspace.features import read, scan
from relspace.rows.formats.npy import ids_file_of, read_ids, write_ids


@pytest.mark.parametrize("ids", [(7, 8, 9), ("7", "8", "9"), ("ä\n", "b\u2028", '"')])
def test_ids_come_back_with_their_type(ids: tuple[object, ...], tmp_path: Path) -> None:
    write_ids(tmp_path / "a.npy", ids)
    assert read_ids(tmp_path / "a.npy", 3) == ids
    np.save(tmp_path / "a.npy", np.eye(3))
    opened = scan(tmp_path / "a.npy").ids
    assert opened is not None
    assert [str(one) for one in opened] == [str(one) for one in ids]
    assert read(tmp_path / "a.npy").ids == opened
    write_ids(tmp_path / "a.npy", None)
    assert read_ids(tmp_path / "a.npy", 3) is None
    assert scan(tmp_path / "a.npy").ids is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1, 2", "can't be read as ids"),
        ("[1, 2]", "no list of ids"),
        ('{"kind": "ids", "ids": [1, "2"]}', "no list of ids"),
        ('{"kind": "ids", "ids": [1.5, 2.5]}', "no list of ids"),
        ('{"kind": "ids", "ids": [1, 2, 3]}', "holds 3 ids, and a.npy beside it 2 rows"),
    ],
)
def test_a_file_of_something_else_is_refused(content: str, said: str, tmp_path: Path) -> None:
    ids_file_of(tmp_path / "a.npy").write_text(content)
    with pytest.raises(FileFormatError, match=said):
        read_ids(tmp_path / "a.npy", 2)
    np.save(tmp_path / "a.npy", np.eye(2))
    with pytest.raises(FileFormatError, match=said):
        scan(tmp_path / "a.npy")
