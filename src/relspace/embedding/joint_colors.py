"""Joint colours of the tokens of several sets, by one normalized cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.arguments import name_some
from relspace.embedding.color import Coloring
from relspace.embedding.ncut import NormalizedCut
from relspace.errors import BandwidthError, InvalidInputError, ItemMismatchError

_COMPONENTS = 16
# The colour of rows that are all alike.
_GREY = 128 / 255


@dataclass(frozen=True)
class JointColors:
    """Tokens of several sets in colours that mean the same in all of them.

    Attributes
    ----------
    colors : dict of str to array of shape (n_images, rows, columns, 3)
        sRGB in [0, 1] of every token, where it lies on its grid.
    rank_correlation : float
        Spearman correlation of colour distance and embedding distance.
    """

    colors: dict[str, NDArray[np.float32]]
    rank_correlation: float


def color_jointly(
    sets: Mapping[str, object],
    shapes: Mapping[str, tuple[int, int]],
    *,
    n_components: int = 16,
    n_landmarks: int = 4096,
    random_state: int = 0,
) -> JointColors:
    """Colour the tokens of photographs by the joint normalized cut of all sets.

    ``sets`` are relative features of every token, image by image and row by row, and ``shapes``
    the (rows, columns) of each set's grid; sets show the same images. Parameters are those of
    :class:`relspace.NormalizedCut`.
    """
    without = [name for name in sets if name not in shapes]
    if without:
        raise InvalidInputError(f"the sets {name_some(without)} have no grid in shapes.")
    cut = NormalizedCut(n_components, n_landmarks=n_landmarks, random_state=random_state).fit(sets)
    coloring = Coloring(random_state=random_state).fit(cut)
    by_grid = {}
    for name, rgb in coloring.colors_.items():
        rows, columns = shapes[name]
        if len(rgb) % (rows * columns):
            raise InvalidInputError(
                f"{name} has {len(rgb)} tokens, which don't fill grids of {rows} x {columns}."
            )
        by_grid[name] = torch.as_tensor(rgb).float().cpu().numpy().reshape(-1, rows, columns, 3)
    counts = {name: len(one) for name, one in by_grid.items()}
    if len(set(counts.values())) > 1:
        raise ItemMismatchError(f"the sets show different numbers of images: {counts}.")
    return JointColors(by_grid, coloring.rank_correlation_)


def joint_colors(
    rows: Mapping[str, torch.Tensor], *, random_state: int = 0
) -> dict[str, NDArray[np.float32]]:
    """Colour the rows of all sets by their joint normalized cut, sRGB in [0, 1].

    They are grey where rows have no graph of the density needed, as where all are the same.
    """
    n_components = min(_COMPONENTS, sum(map(len, rows.values())) - 2)
    try:
        cut = NormalizedCut(n_components, random_state=random_state).fit(rows)
    except BandwidthError:
        return {name: np.full((len(one), 3), _GREY, np.float32) for name, one in rows.items()}
    colors = Coloring().fit(cut).colors_
    return {name: torch.as_tensor(one).float().cpu().numpy() for name, one in colors.items()}
