"""Archives: what lies in memory once is stored twice where two names have it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from relspace._core.archive import read_archive, write_archive
from relspace.errors import FileFormatError


def test_tensors_that_share_memory_are_stored_each(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    given = {"a": whole, "b": whole, "row": whole[1], "turned": whole.T}
    tensors, metadata = read_archive(
        write_archive(tmp_path / "one.safetensors", "trial", given, {"n": 3}), "trial"
    )
    assert metadata == {"kind": "trial", "n": 3}
    assert tensors.keys() == given.keys()
    for name, one in given.items():
        assert torch.equal(tensors[name], one)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "one.safetensors", "trial", {"a": torch.zeros(2)}, {})
    with pytest.raises(FileFormatError, match="holds a trial, not a space"):
        read_archive(path, "space")
