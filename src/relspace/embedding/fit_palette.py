"""Fits palettes: a map from the embedding to three dimensions, and how well colours show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.arrays import bytes_in_floats, refuse_non_finite
from relspace._core.device_copies import copies_for
from relspace._core.matrices import to_numpy
from relspace._core.memory import row_slices
from relspace._core.progress import Listener
from relspace.embedding.palette import Axes, Neighbors, Palette, unit_rows
from relspace.errors import MissingDependencyError
from relspace.kernels.axes import principal_axes, with_fixed_signs
from relspace.kernels.landmarks import draw_distinct
from relspace.kernels.ties import mean_ranks
from relspace.rows.ahead import prefetched
from relspace.rows.source import RowSource

#: Methods that reduce the embedding to three dimensions.
METHODS = ("spectral", "tsne", "umap")

# Size of the sample for quantiles and the rank correlation.
_SAMPLED_ITEMS = 2**18
# Size of the sample that "tsne" and "umap" are fitted on.
_LEARNED_ITEMS = 4096
# Bytes of a token besides its embedding, and tokens that are coloured at a time.
_BYTES_PER_COLOR = 256
_ROWS_AT_A_TIME = 2**16


def fit_palette(
    sources: Mapping[str, RowSource],
    weights: torch.Tensor,
    *,
    method: str,
    quantile: float,
    random_state: int,
    budget: int,
    tell: Listener,
) -> tuple[Palette, float]:
    """Fit a palette to the embedding of all sets, read once in blocks of ``budget`` bytes.

    ``weights`` are of the components; ``method``, ``quantile`` and ``random_state`` are those of
    :class:`relspace.Coloring`. The second result is the rank correlation of distances of colours
    and of the embedding.
    """
    n_tokens = sum(one.shape[0] for one in sources.values())
    sample = _spread_sample(n_tokens, random_state)
    rows, axes = _measure_rows(sources, weights, sample, budget, tell)
    project = axes if method == "spectral" else _learned(rows, method, random_state)
    found = project(rows)
    low, high = (torch.quantile(found, q, dim=0) for q in (quantile, 1 - quantile))
    reach = (high - low) / 2
    reach = torch.where(reach > 0, reach, torch.ones_like(reach))
    palette = Palette(weights, project, (low + high) / 2, reach)
    lab = palette.lab(found)
    return palette, distance_rank_correlation(rows, lab, random_state=random_state)


def _spread_sample(n_items: int, seed: int) -> torch.Tensor:
    """All items, or a random one of each of many equal parts."""
    if n_items <= _SAMPLED_ITEMS:
        return torch.arange(n_items)
    generator = torch.Generator().manual_seed(seed)
    at = torch.rand(_SAMPLED_ITEMS, generator=generator, dtype=torch.float64)
    found = (torch.arange(_SAMPLED_ITEMS) + at) * (n_items / _SAMPLED_ITEMS)
    return found.long().clamp_max(n_items - 1)


def _parts_of(source: RowSource, budget: int) -> Iterator[slice]:
    """Blocks of rows that are coloured at a time."""
    per_row = 5 * bytes_in_floats(source.dtype) * source.shape[1] + _BYTES_PER_COLOR
    return row_slices(source.shape[0], per_row, min(budget, per_row * _ROWS_AT_A_TIME))


def _measure_rows(
    sources: Mapping[str, RowSource],
    weights: torch.Tensor,
    wanted: torch.Tensor,
    budget: int,
    tell: Listener,
) -> tuple[torch.Tensor, Axes]:
    """Read all unit rows once; return those of the sample, and the principal axes of all."""
    width = len(weights) + 1
    total = weights.new_zeros(width, dtype=torch.float64)
    products = total.new_zeros(width, width)
    chosen, n_before = [], 0
    copies = copies_for(weights.device)
    for name, source in sources.items():
        with prefetched(source, _parts_of(source, budget), copies) as blocks:
            for part, block in blocks:
                refuse_non_finite(block, f"the embedding of {name}", first_row=part.start)
                rows = unit_rows(block, weights)
                first = n_before + part.start
                at = wanted[(wanted >= first) & (wanted < n_before + part.stop)] - first
                chosen.append(rows[at.to(rows.device)])
                wide = rows.double()
                total += wide.sum(dim=0)
                products += wide.T @ wide
                tell(part.stop, source.shape[0], f"Reading the embedding of {name}")
        n_before += source.shape[0]
    mean = total / n_before
    axes = torch.linalg.eigh(products / n_before - mean[:, None] * mean).eigenvectors
    axes = with_fixed_signs(axes.flip(1)[:, :3])
    return torch.cat(chosen), Axes(mean.to(weights), axes.to(weights))


def _learned(rows: torch.Tensor, method: str, seed: int) -> Neighbors:
    generator = torch.Generator().manual_seed(seed)
    known = rows[draw_distinct(len(rows), _LEARNED_ITEMS, generator).to(rows.device)]
    learn = _learn_tsne if method == "tsne" else _learn_umap
    return Neighbors(known, torch.from_numpy(learn(to_numpy(known), seed)).to(rows))


def _learn_tsne(rows: NDArray[np.floating], seed: int) -> NDArray[np.floating]:
    """Coordinates by openTSNE in two dimensions; the third is 0."""
    try:
        from openTSNE import TSNE
    except ImportError as error:
        raise MissingDependencyError(
            'method "tsne" needs openTSNE; install it with: pip install "relspace[tsne]"'
        ) from error
    plane = np.asarray(TSNE(n_components=2, random_state=seed % 2**32).fit(rows))
    return np.concatenate([plane, np.zeros((len(plane), 1))], axis=1)


def _learn_umap(rows: NDArray[np.floating], seed: int) -> NDArray[np.floating]:
    """Coordinates by UMAP, rotated to principal axes."""
    try:
        from umap import UMAP
    except ImportError as error:
        raise MissingDependencyError(
            'method "umap" needs umap-learn; install it with: pip install "relspace[umap]"'
        ) from error
    found = np.asarray(UMAP(n_components=3, random_state=seed % 2**32).fit_transform(rows))
    centered = found - found.mean(axis=0)
    axes = principal_axes(torch.from_numpy(centered), 3).numpy().astype(centered.dtype)
    turned: NDArray[np.floating] = centered @ axes
    return turned


def distance_rank_correlation(
    rows: torch.Tensor, lab: torch.Tensor, *, random_state: int = 0, n_pairs: int = 20_000
) -> float:
    """Spearman correlation of distances of unit rows and of OKLab colours, over random pairs."""
    generator = torch.Generator().manual_seed(random_state)
    pairs = torch.randint(len(rows), (2, n_pairs), generator=generator)
    # Of squared distances, because a root would amplify rounding.
    ranks = [
        mean_ranks((one[pairs[0]].double() - one[pairs[1]].double()).square().sum(dim=1))
        for one in (rows, lab)
    ]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])
