"""Sentences that pages of several kinds share."""

from __future__ import annotations

from relspace.reports.thumbnails import Thumbnails

ABOUT_CHANCE = (
    "Chance is the mean over permutations of whole images. It may lie above 0: patches at one "
    "position, the middle or a border, are alike in unrelated images too."
)


def said_of_images(n_shown: int, n_images: int) -> list[str]:
    """Say that a page explores a part of the images, and how it shows more."""
    if n_shown == n_images:
        return []
    shows = f"n_images={n_images} shows all"
    return [f"Explored are the first {n_shown:,} of {n_images:,} images; {shows}."]


def said_of_pictures(pictures: Thumbnails, item: str) -> list[str]:
    """Say how pictures were matched to items or images, where there are pictures."""
    if pictures.matched_by is None:
        return []
    if pictures.matched_by == "ids":
        return ["Pictures were found by ids."]
    return [f"Pictures were matched by position: picture 0 is that of {item} 0, and so on."]
