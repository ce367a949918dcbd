"""The photographs of the demo, from installed packages, and the outlines drawn over them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relspace.errors import MissingDependencyError

if TYPE_CHECKING:
    from PIL.Image import Image

#: What a patch can show.
CONCEPTS = ("object", "outline", "background")
#: Each photograph by its name: the package that holds it, and where.
_FILES: Mapping[str, tuple[str, str]] = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "camera": ("skimage", "data/camera.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "coffee": ("skimage", "data/coffee.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "grace_hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
}
PHOTOGRAPHS = tuple(_FILES)
_OUTLINES = Path(__file__).parent / "outlines"
# The side of crops, as a share of the shorter side.
_CROP = 0.8
# The side of the canvas that polygons are drawn on.
_DRAWN_SIDE = 640
# A cell shows the object if at least _INSIDE of it is covered, background if at most _OUTSIDE is,
# and the outline in between.
_INSIDE, _OUTSIDE, _MOST_IGNORED = 0.9, 0.05, 0.2


@dataclass(frozen=True)
class Photograph:
    """A photograph in RGB, and the polygons that were drawn over it, (n, 2) points x and y.

    ``objects`` outline the main objects, ``ignored`` smaller things that could count as objects.
    """

    name: str
    image: Image
    objects: Sequence[Sequence[tuple[float, float]]]
    ignored: Sequence[Sequence[tuple[float, float]]]

    def crops(self) -> dict[str, Image]:
        """Two square crops in opposite corners."""
        width, height = self.image.size
        side = round(_CROP * min(width, height))
        return {
            f"{self.name}_left": self.image.crop((0, 0, side, side)),
            f"{self.name}_right": self.image.crop((width - side, height - side, width, height)),
        }

    def concepts(self, rows: int, columns: int) -> NDArray[np.int64]:
        """Return what cells of a grid show: (rows, columns) indices in ``CONCEPTS``, or -1."""
        inside = _share(self.objects, self.image.size, rows, columns)
        ignored = _share(self.ignored, self.image.size, rows, columns)
        found = np.where(inside >= _INSIDE, 0, np.where(inside <= _OUTSIDE, 2, 1))
        return np.where((ignored > _MOST_IGNORED) & (found != 0), -1, found)


def load_photographs() -> list[Photograph]:
    """Read the nine photographs from the packages that ship them."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError(
            "reading photographs needs Pillow: pip install 'relspace[demo]'."
        ) from error
    found = []
    for name, (package, inside) in _FILES.items():
        drawn = json.loads((_OUTLINES / f"{name}.json").read_text(encoding="utf-8"))
        with Image.open(_file_of(package, inside)) as image:
            pixels = image.convert("RGB")
        if list(pixels.size) != drawn["size"]:
            raise MissingDependencyError(
                f"the photograph {name} of this version of {package} is of {pixels.size} pixels, "
                f"and its outlines were drawn over {drawn['size']}."
            )
        objects = [one["polygon"] for one in drawn["objects"]]
        found.append(Photograph(name, pixels, objects, drawn["ignored"]))
    return found


def patches_of(
    photographs: Sequence[Photograph], grid: Any, images: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return image (n,), concept (n,) and centre (n, 2) of every token of some images.

    Images are numbers in ``photographs``; concepts are indices in ``CONCEPTS``, -1 where a patch is
    ignored; centres are y and x as fractions of the photograph.
    """
    rows, columns = grid.rows, grid.columns
    concepts = np.stack([one.concepts(rows, columns) for one in photographs])
    numbers = torch.arange(len(images)).repeat_interleave(rows * columns)
    y, x = torch.meshgrid(
        (torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij"
    )
    centers = torch.stack([y, x], dim=2).reshape(-1, 2).repeat(len(images), 1)
    return numbers, torch.from_numpy(concepts.reshape(-1)), centers


def _share(
    polygons: Sequence[Sequence[tuple[float, float]]],
    size: tuple[int, int],
    rows: int,
    columns: int,
) -> NDArray[np.float64]:
    """Return the share of each cell of a grid that polygons cover."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (_DRAWN_SIDE, _DRAWN_SIDE))
    draw = ImageDraw.Draw(canvas)
    for polygon in polygons:
        draw.polygon(
            [(x * _DRAWN_SIDE / size[0], y * _DRAWN_SIDE / size[1]) for x, y in polygon], fill=255
        )
    cells = canvas.resize((columns, rows), Image.Resampling.BOX)
    return np.asarray(cells, dtype=np.float64) / 255


def _file_of(package: str, inside: str) -> Path:
    """Return a file of an installed package, without importing the package."""
    found = find_spec(package)
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    for folder in folders:
        if (path := Path(folder) / inside).is_file():
            return path
    distribution = {"skimage": "scikit-image", "sklearn": "scikit-learn"}.get(package, package)
    raise MissingDependencyError(
        f"the photographs are those that {distribution} ships, which is not installed: pip install "
        "'relspace[demo]'."
    )
