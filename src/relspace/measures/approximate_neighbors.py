"""Nearest neighbours by an approximate index, whose recall is measured against exact answers."""

from __future__ import annotations

import math

import numpy as np
import torch

from relspace._core.memory import row_slices
from relspace.errors import InvalidInputError, MissingDependencyError
from relspace.measures.neighborhoods import (
    BLOCK_BYTES,
    Neighborhoods,
    nearness_of,
    points_of,
    rounding_of,
)

# Cells that k-means makes of the items, for each root of their number; how many of them are looked
# through for each item; and of how many items each cell's centre is the mean, at most.
_CELLS_OF_ROOT = 4
_CELLS_SEARCHED = 32
_ITEMS_OF_CENTRE = 64
_QUERIES = 1_000
_MOST_TIED = 0.05
_SEED = 0


def find_approximately(X: torch.Tensor, k: int, metric: str, name: str) -> Neighborhoods:
    """Find k near others of every item among those of the nearest cells, and measure the recall.

    The recall is the mean share of the k nearest that are found, over a random sample of items.
    Items with ties are refused: the index breaks them by the order of the items, which is the same
    in both sets, so that unrelated sets would agree.
    """
    points, cloud = points_of(X, metric, name)
    n, device = len(points), points.device
    generator = torch.Generator().manual_seed(_SEED)
    sample = torch.randperm(n, generator=generator)[:_QUERIES].to(device)
    last, rounding, tied = [], [], 0
    for rows in row_slices(len(sample), n * cloud.points.element_size(), BLOCK_BYTES):
        items = sample[rows]
        nearest = nearness_of(cloud, items).topk(k + 1, dim=1).values
        error = rounding_of(cloud, items, nearest[:, k - 1], metric)
        tied += int((nearest[:, k - 1] - nearest[:, k] <= error).sum())
        last.append(nearest[:, k - 1])
        rounding.append(error)
    if tied > _MOST_TIED * len(sample):
        raise InvalidInputError(
            f"{tied} of {len(sample)} items of {name} have others as near as the last of their {k} "
            "neighbours, and an approximate index breaks ties by the order of the items.",
            ways_out=["use the exact neighbours: {index='exact'}", "leave out repeated items"],
        )
    candidates = _search(cloud.points, k)
    # Where cells hold fewer than k others, all items are looked through.
    short = (candidates < 0).any(dim=1).nonzero().flatten()
    for rows in row_slices(len(short), n * cloud.points.element_size(), BLOCK_BYTES):
        candidates[short[rows]] = nearness_of(cloud, short[rows]).topk(k, dim=1).indices
    least = torch.cat(last) - torch.cat(rounding)
    of_sample = torch.linalg.vecdot(
        cloud.points[sample, None].double(), cloud.points[candidates[sample]].double()
    )
    half = cloud.half_norms.double()
    near = of_sample - half[sample, None] - half[candidates[sample]]
    recall = float((near >= least[:, None]).double().mean())
    n_sure = torch.full((n,), k, device=device)
    return Neighborhoods(k, candidates, n_sure, torch.zeros_like(n_sure), points, recall)


def _search(points: torch.Tensor, k: int) -> torch.Tensor:
    """Row numbers of k near others of each item, (n, k); -1 where cells hold too few."""
    try:
        import faiss
    except ImportError as error:
        raise MissingDependencyError(
            "an approximate index needs faiss, which is not installed.",
            ways_out=[
                'install it: pip install "relspace[ann]"',
                "use the exact neighbours: {index='exact'}",
                "compare a random part of the items by {max_items=10_000}",
            ],
        ) from error
    n, d = points.shape
    rows = np.ascontiguousarray(points.detach().cpu().numpy(), dtype=np.float32)
    n_cells = max(1, min(round(_CELLS_OF_ROOT * math.sqrt(n)), n // _ITEMS_OF_CENTRE))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(d), d, n_cells)
    index.cp.seed = _SEED
    index.cp.max_points_per_centroid = _ITEMS_OF_CENTRE
    index.train(rows)
    index.add(rows)
    index.nprobe = min(_CELLS_SEARCHED, n_cells)
    found = torch.from_numpy(index.search(rows, k + 1)[1])
    itself = found == torch.arange(n)[:, None]
    # The item itself goes last, and then out; where it isn't among them, the farthest does.
    order = itself.to(torch.int8).argsort(dim=1, stable=True)[:, :k]
    return found.gather(1, order).to(points.device)
