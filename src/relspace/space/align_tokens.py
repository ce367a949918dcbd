"""Alignment of feature sets whose tokens lie on grids, by landmarks at positions of images."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import torch

from relspace._core.arguments import check_choice, check_count
from relspace._core.items import ItemId
from relspace._core.pairing import INTERSECT, ItemContents, pair_sets
from relspace._core.progress import Listener, prefixed
from relspace._core.resources import Resources
from relspace.errors import InvalidTypeError, NonFiniteError
from relspace.features import FeatureSet, Positions, TokenGrid, choose_positions
from relspace.kernels.affinity import rbf_affinity
from relspace.kernels.relative import STANDARDIZATIONS, column_profile
from relspace.space.aligned_set import AlignedSet, fit_aligner, refuse_few_landmarks
from relspace.space.aligner import Aligner, RelativeRows
from relspace.space.defaults import Settings
from relspace.space.held_rows import hold_rows
from relspace.space.token_space import TokenSpace


def align_tokens(
    sets: Mapping[str, FeatureSet],
    *,
    ids: Mapping[str, Sequence[ItemId] | None],
    contents: Mapping[str, ItemContents | None],
    landmarks: object,
    on_missing: str,
    settings: Settings,
    random_state: int,
    memory_budget: int | None,
    tell: Listener,
) -> TokenSpace:
    """Bring tokens of feature sets over the same images into one common space.

    Each feature set has one layer, whose tokens lie on a grid. Rows are standardised column by
    column; columns are decorrelated where rows are compared, once the landmarks in their own image
    are left out.
    """
    check_choice(settings.standardize, "standardize", STANDARDIZATIONS)
    is_mixed = settings.standardize in ("whiten", "half-whiten")
    of_rows = replace(settings, standardize="columns") if is_mixed else settings
    sizes = {name: len(fs) for name, fs in sets.items()}
    shared, order = pair_sets(sizes, ids, contents, on_missing)
    layers = {}
    for name, fs in sets.items():
        rows = order[name]
        layers[name] = (fs if rows is None else fs.select(images=rows))[fs.layers[0]]
    grids = {name: layer.grid for name, layer in layers.items() if layer.grid is not None}
    positions = _chosen_positions(landmarks, grids, random_state)
    aligners, mixings, relative, features = {}, {}, {}, {}
    for name, layer in layers.items():
        tell(0, 0, f"Aligning {name}")
        some = layer.read_positions(positions).to(layer.read(0, 1).device)
        aligners[name] = aligner = fit_aligner(of_rows, some, name)
        features[name] = some.to(aligner.landmarks_)
        mixings[name] = _mixing(aligner, settings.standardize) if is_mixed else None
        relative[name] = layer.mapped(len(positions), _RowsOfTokens(RelativeRows(aligner), name))
    n_bytes = sum(one.shape[0] * len(positions) * one.dtype.itemsize for one in relative.values())
    held = Resources.of(memory_budget).holds(n_bytes)
    aligned = {
        name: AlignedSet(
            aligners[name],
            hold_rows(rows, prefixed(tell, name)) if held else rows,
            False,
            rows.dtype,
            mixings[name],
            features[name],
        )
        for name, rows in relative.items()
    }
    return TokenSpace(
        aligned,
        grids=grids,
        ids=shared,
        landmarks=positions,
        parameters={
            "layers": {name: layer.name for name, layer in layers.items()},
            **asdict(settings),
            "random_state": random_state,
            **({"n_given": sizes} if on_missing == INTERSECT else {}),
        },
    )


def _chosen_positions(landmarks: object, grids: Mapping[str, TokenGrid], seed: int) -> Positions:
    """The given positions, or random ones at which all grids can be read."""
    if isinstance(landmarks, Positions):
        return refuse_few_landmarks(landmarks)
    if not isinstance(landmarks, numbers.Real):
        raise InvalidTypeError(
            f"landmarks is of type {type(landmarks).__name__}; for tokens on grids it must be a "
            "number of positions, or Positions."
        )
    wanted = check_count(landmarks, "landmarks", at_least=3)
    return refuse_few_landmarks(choose_positions(grids, wanted, random_state=seed))


def _mixing(aligner: Aligner, standardize: str) -> torch.Tensor | None:
    """The whitening of the columns of a set, which is applied when rows are compared."""
    affinity = torch.as_tensor(rbf_affinity(aligner.landmarks_, sigma=aligner.bandwidth_))
    return column_profile(affinity, standardize=standardize).whitening


@dataclass(frozen=True)
class _RowsOfTokens:
    """Relative features of tokens of a set, by errors that name the set."""

    relative: RelativeRows
    name: str

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        try:
            return self.relative(tokens)
        except NonFiniteError as error:
            raise error.about(f"tokens of {self.name}") from error
