"""What makes the components of all tokens orthonormal: sums over them, weighted by degree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from relspace._core.archive import read_archive, write_archive
from relspace._core.memory import chunk_slices
from relspace.embedding.extension import ROWS_AT_A_TIME, Extension
from relspace.errors import FileFormatError
from relspace.rows.ledger import checksum_of
from relspace.rows.source import RowSource

_PASS = "pass over the tokens"


def hold_components(
    extensions: Mapping[str, Extension],
    sources: Mapping[str, RowSource],
    *,
    budget: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Extend all tokens, and find what makes their components orthonormal, weighted by degree.

    Parameters
    ----------
    extensions : mapping of str to Extension
        Each set's way into the embedding.
    sources : mapping of str to RowSource
        Each set's tokens.
    budget : int
        Bytes that blocks of tokens may take.
    progress : callable, optional
        ``progress(n_done, n_tokens)`` after every block.

    Returns
    -------
    rotation : tensor of shape (k, k)
        What components are multiplied by.
    held : dict of str to tensor of shape (n_s, k)
        Every set's components before.
    """
    like = next(iter(extensions.values())).rotation
    k = like.shape[0]
    sums = DegreeGram.empty(k, like.device)
    n_tokens = sum(one.shape[0] for one in sources.values())
    held = {}
    for name, source in sources.items():
        held[name] = like.new_empty((source.shape[0], k))
        with closing(extensions[name].blocks(source, budget)) as blocks:
            for rows, extended, degrees in blocks:
                sums.add(extended, degrees)
                held[name][rows] = extended
                if progress is not None:
                    progress(sums.done, n_tokens)
    return sums.orthonormalizer().to(like), held


@dataclass
class DegreeGram:
    """Sums over all tokens of the products of their components, weighted by degree.

    Attributes
    ----------
    gram : float64 tensor of shape (k, k)
        Sum of d y y^T.
    total : float64 tensor of shape ()
        Sum of the degrees d.
    done : int
        Tokens that were added, of all sets in their order.
    """

    gram: torch.Tensor
    total: torch.Tensor
    done: int = 0

    @classmethod
    def empty(cls, k: int, device: torch.device) -> DegreeGram:
        """Of no tokens."""
        zero = torch.zeros((), dtype=torch.float64, device=device)
        return cls(torch.zeros(k, k, dtype=torch.float64, device=device), zero)

    def add(self, rows: torch.Tensor, degrees: torch.Tensor) -> None:
        """Add tokens, a fixed number at a time, so that the sum does not depend on the blocks."""
        for part in chunk_slices(len(rows), ROWS_AT_A_TIME):
            some, weight = rows[part].double(), degrees[part].double()
            self.gram += (some * weight[:, None]).T @ some
            self.total += weight.sum()
        self.done += len(rows)

    def orthonormalizer(self) -> torch.Tensor:
        """The triangular map that makes components orthonormal, each with those before it."""
        factor = torch.linalg.cholesky(self.gram / self.total)
        identity = torch.eye(len(factor), dtype=torch.float64, device=factor.device)
        inverse: torch.Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
        return inverse.T

    def save(self, path: str | Path, header: Mapping[str, Any]) -> None:
        """Write the sums, whole or not at all, with the header of their job."""
        tensors = {"gram": self.gram, "total": self.total}
        checksum = checksum_of(self.gram, self.total)
        beside = {"header": dict(header), "done": self.done, "checksum": checksum}
        write_archive(path, _PASS, tensors, beside)

    @classmethod
    def load(cls, path: str | Path, device: torch.device) -> tuple[DegreeGram, dict[str, Any]]:
        """Read what :meth:`save` wrote, and the header of its job.

        Raises
        ------
        FileFormatError
            If it is damaged, or holds something else.
        """
        tensors, metadata = read_archive(path, _PASS)
        gram, total = tensors.get("gram"), tensors.get("total")
        known = metadata.get("checksum")
        if gram is None or total is None or checksum_of(gram, total) != known:
            raise FileFormatError(
                f"{path} is damaged, or of an older version.", ways_out=["delete it"]
            )
        return cls(gram.to(device), total.to(device), metadata["done"]), metadata["header"]
