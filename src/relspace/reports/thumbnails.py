"""Images, wherever they are, as small pictures in the order of a space's items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.validation import ItemId, name_some
from relspace.errors import ItemMismatchError
from relspace.features import TokenGrid, open_images
from relspace.reports.page.data import ReportImage

_SIDE = 256


def read_thumbnails(
    images: object,
    ids: Sequence[ItemId] | None,
    n_items: int,
    chosen: Sequence[int],
    *,
    side: int = _SIDE,
) -> list[ReportImage]:
    """Read the images of some items and shrink them.

    Parameters
    ----------
    images : path, glob pattern, array, dataset, or a sequence of paths, arrays or PIL images
        As for :func:`relspace.features.images.open_images`.
    ids : sequence or None
        The items' ids, by which images are found; None where they are matched by position.
    n_items : int
        How many items there are.
    chosen : sequence of int
        The items whose images are read.
    side : int
        The longer side of a thumbnail at most, in pixels.

    Returns
    -------
    list of ReportImage
        One per chosen item.

    Raises
    ------
    ItemMismatchError
        If items have no image, or images can't be told apart from each other.
    """
    collection = open_images(images)
    if ids is None:
        if len(collection) != n_items:
            raise ItemMismatchError(
                f"there are {len(collection)} images and {n_items} items without ids: give one "
                "image for each item, in the same order."
            )
        position = {item: item for item in chosen}
    else:
        position = _positions(collection.ids, [str(ids[item]) for item in chosen], chosen)
    found = []
    for item in chosen:
        picture = collection.load(position[item])
        picture.thumbnail((side, side))
        title = collection.ids[position[item]] if ids is None else str(ids[item])
        found.append(ReportImage(title, np.asarray(picture, dtype=np.uint8)))
    return found


def thumbnails_of(
    images: object, ids: Sequence[ItemId] | None, grid: TokenGrid, n_images: int
) -> list[ReportImage]:
    """The first images that a grid lies over; grey ones of their shapes where none are given."""
    if images is not None:
        return read_thumbnails(images, ids, grid.n_images, range(n_images))
    titles = [str(number + 1) if ids is None else str(ids[number]) for number in range(n_images)]
    return [
        ReportImage(title, _blank(size))
        for title, size in zip(titles, grid.image_sizes[:n_images].tolist(), strict=True)
    ]


def said_of_images(n_shown: int, n_images: int) -> str:
    """Say that a page explores a part of the images, and how it shows more."""
    return (
        f"Explored are the first {n_shown:,} of {n_images:,} images; n_images={n_images} shows all."
    )


def grid_boxes(grid: TokenGrid, n_images: int) -> NDArray[np.float64] | None:
    """What a grid covers of its first images as fractions of them; None where it is everything."""
    sizes = grid.image_sizes[:n_images].double()
    boxes = (grid.boxes[:n_images] / torch.cat([sizes, sizes], dim=1)).numpy()
    return None if np.allclose(boxes, [0.0, 0.0, 1.0, 1.0]) else boxes


def _blank(size: list[int]) -> NDArray[np.uint8]:
    """A grey image of the shape of one that isn't given."""
    height, width = (max(1, round(64 * side / max(size))) for side in size)
    return np.full((height, width, 3), 128, dtype=np.uint8)


def _positions(names: Sequence[str], wanted: Sequence[str], items: Sequence[int]) -> dict[int, int]:
    """Where the images of items are: under the id itself, or under it with an ending."""
    known = {name: position for position, name in enumerate(names)}
    for position, name in enumerate(names):
        stem = name.rpartition(".")[0]
        known.setdefault(stem or name, position)
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ItemMismatchError(
            f"there are no images for the items {name_some(missing)}; the images are "
            f"{name_some(names)}."
        )
    return {item: known[name] for item, name in zip(items, wanted, strict=True)}
