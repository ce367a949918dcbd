"""Alignment of feature sets whose tokens lie on grids: landmarks are places in shared images."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence

import torch

from relspace._core.memory import free_memory_bytes
from relspace._core.pairing import ItemContents, pair_sets
from relspace._core.validation import (
    ItemId,
    check_choice,
    check_count,
    check_random_state,
    name_some,
)
from relspace.errors import BandwidthError, InvalidInputError, InvalidTypeError, NonFiniteError
from relspace.features import FeatureSet, Places, choose_places
from relspace.kernels.affinity import rbf_affinity
from relspace.kernels.relative import STANDARDIZATIONS, column_profile
from relspace.space.aligned_set import AlignedSet, hold_rows
from relspace.space.aligner import Aligner
from relspace.space.token_space import TokenSpace

#: Defaults for tokens on grids: what most tokens differ by is kept, and columns are decorrelated
#: halfway where rows are compared.
TOKEN_DENSITY = 0.05
TOKEN_NORMALIZATION = "center+unit"
TOKEN_STANDARDIZATION = "half-whiten"

# Of the free memory, what rows may take that a space holds; comparing them needs some too.
_SHARE_TO_HOLD = 0.5


def chosen_layers(
    sets: Mapping[str, FeatureSet], layer: str | Mapping[str, str] | None
) -> dict[str, FeatureSet]:
    """Leave one layer in each feature set: the one named, by default the last.

    Parameters
    ----------
    sets : mapping of str to FeatureSet
        Feature sets by name.
    layer : str, mapping of str to str, or None
        The layer of all sets, or of each; sets that are not named have their last.
    """
    if isinstance(layer, Mapping):
        unknown = [name for name in layer if name not in sets]
        if unknown:
            raise InvalidInputError(
                f"layer names {name_some(unknown)}; the feature sets are {name_some(list(sets))}."
            )
        return {name: fs.select(layers=layer.get(name, fs.layers[-1])) for name, fs in sets.items()}
    return {
        name: fs.select(layers=fs.layers[-1] if layer is None else layer)
        for name, fs in sets.items()
    }


def align_tokens(
    sets: Mapping[str, FeatureSet],
    *,
    ids: Mapping[str, Sequence[ItemId] | None],
    contents: Mapping[str, ItemContents | None],
    landmarks: object,
    density: float,
    normalize: str,
    standardize: str,
    random_state: int,
    memory_budget: int | None = None,
) -> TokenSpace:
    """Bring tokens of feature sets over the same images into one common space.

    Parameters
    ----------
    sets : mapping of str to FeatureSet
        One layer each, whose tokens lie on a grid.
    ids : mapping of str to (sequence or None)
        Ids of each set's images.
    contents : mapping of str to (ItemContents or None)
        What is known of the content of each set's images.
    landmarks : int or Places
        How many places, chosen at random where all the grids can be read; or which.
    density, normalize, random_state, memory_budget
        As in :func:`relspace.align`.
    standardize : str
        As in :func:`relspace.align`. Rows are standardised column by column; columns are
        decorrelated where rows are compared, once the landmarks in their own image are left out.

    Returns
    -------
    TokenSpace
        The space; each set keeps all its tokens.
    """
    check_choice(standardize, "standardize", STANDARDIZATIONS)
    is_mixed = standardize in ("whiten", "half-whiten")
    seed = check_random_state(random_state)
    shared, order = pair_sets({name: len(fs) for name, fs in sets.items()}, ids, contents)
    layers = {}
    for name, fs in sets.items():
        rows = order[name]
        layers[name] = (fs if rows is None else fs.select(images=rows))[fs.layers[0]]
    grids = {name: layer.grid for name, layer in layers.items() if layer.grid is not None}
    if isinstance(landmarks, Places):
        places = landmarks
    elif isinstance(landmarks, numbers.Real):
        wanted = check_count(landmarks, "landmarks", at_least=3)
        places = choose_places(grids, wanted, random_state=seed)
    else:
        raise InvalidTypeError(
            f"landmarks is of type {type(landmarks).__name__}; for tokens on grids it must be a "
            "number of places, or Places."
        )
    if len(places) < 3:
        raise InvalidInputError(
            f"there are {len(places)} landmarks; a bandwidth is solved on at least 3."
        )
    aligners, mixings, relative = {}, {}, {}
    for name, layer in layers.items():
        aligner = Aligner(
            density=density,
            normalize=normalize,
            standardize="columns" if is_mixed else standardize,
        )
        try:
            aligner.fit(layer.read_places(places).to(layer.read(0, 1).device))
        except BandwidthError as error:
            raise error.about(f"landmarks of {name}") from error
        aligners[name] = aligner
        mixings[name] = _mixing(aligner, standardize) if is_mixed else None
        relative[name] = layer.mapped(len(places), _RowsOfTokens(aligner, name))
    n_bytes = sum(one.shape[0] * len(places) * one.dtype.itemsize for one in relative.values())
    held = fits_to_hold(n_bytes, memory_budget)
    aligned = {
        name: AlignedSet(
            aligners[name], hold_rows(rows) if held else rows, False, rows.dtype, mixings[name]
        )
        for name, rows in relative.items()
    }
    return TokenSpace(
        aligned,
        grids=grids,
        ids=shared,
        places=places,
        parameters={
            "layers": {name: layer.name for name, layer in layers.items()},
            "density": density,
            "normalize": normalize,
            "standardize": standardize,
            "random_state": seed,
        },
    )


def fits_to_hold(n_bytes: int, memory_budget: int | None) -> bool:
    """Whether a space holds its rows: up to a budget, by default half of the free memory."""
    budget = free_memory_bytes() * _SHARE_TO_HOLD if memory_budget is None else memory_budget
    return n_bytes <= budget


def _mixing(aligner: Aligner, standardize: str) -> torch.Tensor | None:
    """What decorrelates the columns of a fitted set, whose rows are left as they are."""
    affinity = torch.as_tensor(rbf_affinity(aligner.landmarks_, sigma=aligner.bandwidth_))
    return column_profile(affinity, standardize=standardize).whitening


class _RowsOfTokens:
    """Relative features of some tokens of a set."""

    def __init__(self, aligner: Aligner, name: str) -> None:
        self._aligner, self._name = aligner, name

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        try:
            return self._aligner.relative_rows(tokens)
        except NonFiniteError as error:
            raise error.about(f"tokens of {self._name}") from error
