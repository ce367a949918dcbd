"""Features of held-out digits by the benchmark's networks, trained once and kept on disk."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from examples.digits import digits as digits_module
from examples.digits import networks as demo_networks
from examples.digits.digits import Digits, accuracy, extract, load_split
from quality import networks, training
from quality.networks import FAMILIES, SHALLOW
from quality.training import Treatment, train
from relspace._core.archive import read_archive, write_archive

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "quality"
_KIND = "features of a benchmark's network"
STANDARD = Treatment()
_SOURCES = (networks, training, digits_module, demo_networks)


@dataclass(frozen=True)
class Trained:
    """One trained network's features.

    Attributes
    ----------
    layers : dict of str to tensor of shape (n, d)
        Features of the held-out digits, from input to output.
    accuracy : float
        Share of held-out digits that it classifies rightly.
    """

    layers: dict[str, Tensor]
    accuracy: float


@dataclass(frozen=True)
class Recipe:
    """Which network: its family, whether it is a shallow one, its seed, its digits' treatment."""

    family: str
    seed: int
    shallow: bool = False
    treatment: Treatment = STANDARD

    def make(self, train_digits: Digits, held_out: Digits) -> Trained:
        """Train it and look at the held-out digits."""
        build = (SHALLOW if self.shallow else FAMILIES)[self.family]
        network = train(build, train_digits, seed=self.seed, treatment=self.treatment)
        seen = Digits(self.treatment.look_at(held_out.images), held_out.labels)
        return Trained(extract(network, seen.images), accuracy(network, seen))


def trained(
    recipes: Iterable[Recipe], progress: Callable[[str], None] = lambda _: None
) -> dict[Recipe, Trained]:
    """Read networks' features from the cache, training those that it lacks.

    Parameters
    ----------
    recipes : iterable of Recipe
        Which networks.
    progress : callable
        Told what is done.

    Returns
    -------
    dict of Recipe to Trained
        In the order of the recipes.
    """
    split: tuple[Digits, Digits] | None = None
    found = {}
    wanted = list(recipes)
    for number, recipe in enumerate(wanted, start=1):
        path = CACHE / f"{_key(recipe)}.safetensors"
        if not path.exists():
            progress(f"training network {number} of {len(wanted)}")
            split = split or load_split()
            one = recipe.make(*split)
            write_archive(
                path, _KIND, one.layers, {"accuracy": one.accuracy, "layers": list(one.layers)}
            )
        tensors, record = read_archive(path, _KIND)
        found[recipe] = Trained(
            {name: tensors[name] for name in record["layers"]}, record["accuracy"]
        )
    return found


def held_out_labels() -> Tensor:
    """Classes of the held-out digits."""
    return load_split()[1].labels


def _key(recipe: Recipe) -> str:
    """A name that changes with the recipe and with whatever the features are made by."""
    made_by = "".join(inspect.getsource(module) for module in _SOURCES)
    text = f"{recipe}{made_by}{torch.__version__}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]
