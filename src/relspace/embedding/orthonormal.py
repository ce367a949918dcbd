"""Orthonormal components over all tokens, by sums that are weighted by degree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from relspace._core.archive import read_archive, write_archive
from relspace._core.memory import chunk_slices
from relspace.embedding.extension import ROWS_AT_A_TIME
from relspace.errors import FileFormatError
from relspace.rows.ledger import checksum_of

_PASS = "pass over the tokens"


@dataclass
class DegreeGram:
    """Sums over ``done`` tokens, in float64: ``gram`` of d y y^T and ``total`` of the degrees d."""

    gram: torch.Tensor
    total: torch.Tensor
    done: int = 0

    @classmethod
    def empty(cls, k: int, device: torch.device) -> DegreeGram:
        """Sums over no tokens."""
        zero = torch.zeros((), dtype=torch.float64, device=device)
        return cls(torch.zeros(k, k, dtype=torch.float64, device=device), zero)

    def add(self, rows: torch.Tensor) -> None:
        """Add tokens as :class:`ExtendedRows` gives them, a fixed number at a time.

        The sum is then the same to the bit, however many tokens are given at once.
        """
        for part in chunk_slices(len(rows), ROWS_AT_A_TIME):
            some, weight = rows[part, :-1].double(), rows[part, -1].double()
            self.gram += (some * weight[:, None]).T @ some
            self.total += weight.sum()
        self.done += len(rows)

    def orthonormalizer(self) -> torch.Tensor:
        """The triangular map that makes components orthonormal, in their order."""
        factor = torch.linalg.cholesky(self.gram / self.total)
        identity = torch.eye(len(factor), dtype=torch.float64, device=factor.device)
        inverse: torch.Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
        return inverse.T

    def save(self, path: str | Path, header: Mapping[str, Any]) -> None:
        """Write the sums with the header of their job, completely or not at all."""
        tensors = {"gram": self.gram, "total": self.total}
        checksum = checksum_of(self.gram, self.total)
        beside = {"header": dict(header), "done": self.done, "checksum": checksum}
        write_archive(path, _PASS, tensors, beside)

    @classmethod
    def load(cls, path: str | Path, device: torch.device) -> tuple[DegreeGram, dict[str, Any]]:
        """Read saved sums and the header of their job."""
        tensors, metadata = read_archive(path, _PASS)
        gram, total = tensors.get("gram"), tensors.get("total")
        known = metadata.get("checksum")
        if gram is None or total is None or checksum_of(gram, total) != known:
            raise FileFormatError(
                f"{path} is damaged, or of an older version.", ways_out=["delete it"]
            )
        return cls(gram.to(device), total.to(device), metadata["done"]), metadata["header"]
