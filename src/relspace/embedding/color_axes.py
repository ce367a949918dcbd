"""One pass over an embedding: the principal axes of all its unit rows, and a sample of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing

import torch

from relspace._core.arrays import bytes_in_floats
from relspace._core.device_copies import copies_for
from relspace._core.memory import row_slices
from relspace._core.validation import refuse_non_finite
from relspace.embedding.palette import Axes, unit_rows
from relspace.rows.ahead import read_blocks
from relspace.rows.source import RowSource

# Tokens that quantiles and the rank correlation are taken from, where there are more.
_SAMPLED_ITEMS = 2**18
# What a token takes on its way to a colour, besides its embedding, and how many go at once.
_BYTES_PER_COLOR = 256
_ROWS_AT_A_TIME = 2**16


def spread_sample(n_items: int, seed: int) -> torch.Tensor:
    """All items, or one at random of each of as many stretches as are sampled."""
    if n_items <= _SAMPLED_ITEMS:
        return torch.arange(n_items)
    generator = torch.Generator().manual_seed(seed)
    at = torch.rand(_SAMPLED_ITEMS, generator=generator, dtype=torch.float64)
    places = (torch.arange(_SAMPLED_ITEMS) + at) * (n_items / _SAMPLED_ITEMS)
    return places.long().clamp_max(n_items - 1)


def parts_of(source: RowSource, budget: int) -> Iterator[slice]:
    """Rows that are coloured at a time."""
    per_row = 5 * bytes_in_floats(source.dtype) * source.shape[1] + _BYTES_PER_COLOR
    return row_slices(source.shape[0], per_row, min(budget, per_row * _ROWS_AT_A_TIME))


def measure_rows(
    sources: Mapping[str, RowSource], weights: torch.Tensor, wanted: torch.Tensor, budget: int
) -> tuple[torch.Tensor, Axes]:
    """Read all unit rows once: the wanted ones, in their order, and the principal axes of all."""
    width = len(weights) + 1
    total = weights.new_zeros(width, dtype=torch.float64)
    products = total.new_zeros(width, width)
    chosen, n_before = [], 0
    copies = copies_for(weights.device)
    for name, source in sources.items():
        with closing(read_blocks(source, parts_of(source, budget), copies)) as blocks:
            for part, block in blocks:
                refuse_non_finite(block, f"the embedding of {name}", first_row=part.start)
                rows = unit_rows(block, weights)
                first = n_before + part.start
                at = wanted[(wanted >= first) & (wanted < n_before + part.stop)] - first
                chosen.append(rows[at.to(rows.device)])
                wide = rows.double()
                total += wide.sum(dim=0)
                products += wide.T @ wide
        n_before += source.shape[0]
    mean = total / n_before
    axes = torch.linalg.eigh(products / n_before - mean[:, None] * mean).eigenvectors
    axes = axes.flip(1)[:, :3]
    sign = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
    return torch.cat(chosen), Axes(mean.to(weights), (axes * sign).to(weights))
