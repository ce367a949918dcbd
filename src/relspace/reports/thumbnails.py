"""Small pictures of a space's items, found by id or, where there are no ids, by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.arguments import name_some
from relspace._core.items import ItemId
from relspace.errors import ItemMismatchError
from relspace.features import TokenGrid, open_images
from relspace.reports.page.data import ReportImage

_SIDE = 256


@dataclass(frozen=True)
class Thumbnails:
    """Pictures of some items, and whether they were matched to them by "ids" or by "position"."""

    images: tuple[ReportImage, ...] = ()
    matched_by: str | None = None


def read_thumbnails(
    images: object,
    ids: Sequence[ItemId] | None,
    n_items: int,
    chosen: Sequence[int],
    *,
    side: int = _SIDE,
) -> Thumbnails:
    """Read the images of the items with the row numbers ``chosen``, and shrink them to ``side``.

    Images are found by ids; without ids, image i is that of item i. Items without an image or with
    several raise ItemMismatchError, as do other numbers of images where there are no ids.
    """
    collection = open_images(images)
    if ids is None:
        if len(collection) != n_items:
            raise ItemMismatchError(
                f"there are {len(collection)} images and {n_items} items without ids: give one "
                "image for each item, in the same order, or ids of the items, by which their "
                "images are found."
            )
        numbers, titles = list(chosen), [collection.ids[item] for item in chosen]
    else:
        titles = [str(ids[item]) for item in chosen]
        numbers = _numbers_of(titles, collection.ids)
    found = []
    for number, title in zip(numbers, titles, strict=True):
        picture = collection.load(number)
        picture.thumbnail((side, side))
        found.append(ReportImage(title, np.asarray(picture, dtype=np.uint8)))
    return Thumbnails(tuple(found), "position" if ids is None else "ids")


def thumbnails_of(
    images: object, ids: Sequence[ItemId] | None, grid: TokenGrid, n_images: int
) -> Thumbnails:
    """The first images that a grid lies over; grey ones of their shapes where none are given."""
    if images is not None:
        return read_thumbnails(images, ids, grid.n_images, range(n_images))
    titles = [str(number) if ids is None else str(ids[number]) for number in range(n_images)]
    sizes = grid.image_sizes[:n_images].tolist()
    grey = (ReportImage(title, _grey(size)) for title, size in zip(titles, sizes, strict=True))
    return Thumbnails(tuple(grey))


def grid_boxes(grid: TokenGrid, n_images: int) -> NDArray[np.float64] | None:
    """What a grid covers of its first images as fractions of them; None where it is everything."""
    sizes = grid.image_sizes[:n_images].double()
    boxes = (grid.boxes[:n_images] / torch.cat([sizes, sizes], dim=1)).numpy()
    return None if np.allclose(boxes, [0.0, 0.0, 1.0, 1.0]) else boxes


def _grey(size: list[int]) -> NDArray[np.uint8]:
    height, width = (max(1, round(64 * side / max(size))) for side in size)
    return np.full((height, width, 3), 128, dtype=np.uint8)


def _numbers_of(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    """The image of each id: the one that is named so, with or without an ending."""
    exact = {name: number for number, name in enumerate(names)}
    by_stem: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        by_stem.setdefault(name.rpartition(".")[0], []).append(number)
    found = {one: [exact[one]] if one in exact else by_stem.get(one, []) for one in wanted}
    missing = [one for one, numbers in found.items() if not numbers]
    if missing:
        raise ItemMismatchError(
            f"there are no images for the items {name_some(missing)}; the images are "
            f"{name_some(names)}. Images are found by the items' ids, with or without an ending."
        )
    for one, numbers in found.items():
        if len(numbers) > 1:
            several = name_some([names[number] for number in numbers])
            raise ItemMismatchError(
                f"the item {one!r} has several images, {several}: leave one of them, or name items "
                "by whole file names."
            )
    return [found[one][0] for one in wanted]
