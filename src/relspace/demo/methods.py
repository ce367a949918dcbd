"""Methods that make tokens of two networks comparable, and which of them studies compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from relspace.kernels import rbf_affinity, squared_distances
from relspace.space.aligner import Aligner
from relspace.space.defaults import TOKENS

#: Random draws of the signs of principal components, over which results are averaged.
N_SIGNS = 4

#: Maps one network's features of the landmarks, and its tokens, to rows.
OneSided = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Sides:
    """The input of a method: tokens of two networks, and features of shared landmarks.

    Tokens are X (n, d) and Y (m, e); ``landmarks_x`` (l, d) and ``landmarks_y`` (l, e) are features
    at the same positions in other images.
    """

    X: Tensor
    Y: Tensor
    landmarks_x: Tensor
    landmarks_y: Tensor


#: Maps tokens of both networks to rows whose inner products compare them.
Method = Callable[[Sides], tuple[Tensor, Tensor]]


def separately(bring: OneSided) -> Method:
    """Return the method that maps each network by itself."""
    return lambda sides: (bring(sides.landmarks_x, sides.X), bring(sides.landmarks_y, sides.Y))


def unit(rows: Tensor) -> Tensor:
    """Scale rows to length 1."""
    return functional.normalize(rows)


def padded(width: int) -> OneSided:
    """Before: features padded by zeros to a common width, compared by cosine."""
    return lambda _, tokens: unit(functional.pad(tokens, (0, width - tokens.shape[1])))


def principal_components(width: int) -> OneSided:
    """Before: as many principal components of each network, compared by cosine.

    The sign of an axis is arbitrary (:func:`over_signs`); here its largest weight is positive.
    """

    def bring(landmarks: Tensor, tokens: Tensor) -> Tensor:
        mean = landmarks.mean(0)
        axes = torch.linalg.svd((landmarks - mean).double(), full_matrices=False).Vh[:width]
        axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
        return unit((tokens - mean) @ axes.T.to(tokens))

    return bring


def random_signs(sets: Mapping[str, Tensor], random_state: int) -> dict[str, Tensor]:
    """Draw the signs of all axes of each set at random."""
    generator = torch.Generator().manual_seed(random_state)
    return {
        name: rows * (torch.randint(0, 2, (1, rows.shape[1]), generator=generator) * 2 - 1)
        for name, rows in sets.items()
    }


def over_signs(method: Method) -> list[Method]:
    """Return a method with the signs of Y's axes drawn at random, ``N_SIGNS`` times."""

    def with_signs(draw: int, sides: Sides) -> tuple[Tensor, Tensor]:
        X, Y = method(sides)
        return X, random_signs({"Y": Y}, draw)["Y"]

    return [partial(with_signs, draw) for draw in range(N_SIGNS)]


def relative_representations(*, center: bool) -> OneSided:
    """Cosines with the landmarks, compared by cosine (Moschella et al. 2023, ICLR)."""

    def bring(landmarks: Tensor, tokens: Tensor) -> Tensor:
        mean = landmarks.mean(0) if center else torch.zeros_like(landmarks[0])
        return unit(unit(tokens - mean) @ unit(landmarks - mean).T)

    return bring


def fixed_bandwidth(sigma: float) -> OneSided:
    """Affinities to the landmarks with a given bandwidth, compared by cosine."""

    def bring(landmarks: Tensor, tokens: Tensor) -> Tensor:
        return unit(torch.as_tensor(rbf_affinity(tokens, landmarks, sigma=sigma)))

    return bring


def median_bandwidth(landmarks: Tensor, tokens: Tensor) -> Tensor:
    """Affinities to the landmarks with their median distance as bandwidth, by cosine."""
    squared = torch.as_tensor(squared_distances(landmarks))
    apart = ~torch.eye(len(landmarks), dtype=torch.bool)
    sigma = float(squared[apart].median().sqrt())
    return unit(torch.as_tensor(rbf_affinity(tokens, landmarks, sigma=sigma)))


def canonical_correlation(sides: Sides, ridge: float = 1e-2) -> tuple[Tensor, Tensor]:
    """Canonical correlation analysis, fitted on the landmarks as pairs, compared by cosine.

    Whitening is regularised by ``ridge`` times the mean variance; directions are weighted by their
    correlation.
    """
    means = [sides.landmarks_x.mean(0).double(), sides.landmarks_y.mean(0).double()]
    centred = [sides.landmarks_x.double() - means[0], sides.landmarks_y.double() - means[1]]
    whitening = []
    for one in centred:
        covariance = one.T @ one / len(one)
        values, vectors = torch.linalg.eigh(covariance)
        whitening.append(vectors / (values.clamp_min(0) + ridge * values.mean()).sqrt())
    cross = (centred[0] @ whitening[0]).T @ (centred[1] @ whitening[1]) / len(centred[0])
    left, correlation, right = torch.linalg.svd(cross, full_matrices=False)
    maps = [whitening[0] @ left * correlation, whitening[1] @ right.T * correlation]
    X, Y = (
        unit(((tokens.double() - mean) @ along).to(tokens))
        for tokens, mean, along in zip((sides.X, sides.Y), means, maps, strict=True)
    )
    return X, Y


#: What suits patches whose landmarks lie in other images; benchmarks/part_retrieval.py tells.
DENSITY, NORMALIZE, STANDARDIZE = 0.1, "quarter-whiten+unit", "half-whiten"


def aligned(
    density: float = DENSITY, normalize: str = NORMALIZE, standardize: str = STANDARDIZE
) -> OneSided:
    """Relative features of :class:`relspace.Aligner`, compared by correlation."""

    def bring(landmarks: Tensor, tokens: Tensor) -> Tensor:
        aligner = Aligner(density=density, normalize=normalize, standardize=standardize)
        rows = torch.as_tensor(aligner.fit(landmarks).transform(tokens))
        return unit(rows) if standardize == "none" else rows

    return bring


@dataclass(frozen=True)
class Contender:
    """A method that is compared, with its title in tables.

    ``kind`` is "before", "peer" (sees no pairs, only which landmarks correspond), "paired" (fitted
    on pairs) or "ours".
    """

    title: str
    kind: str
    method: Method


def contenders(narrow: int, wide: int) -> dict[str, Contender]:
    """Return the methods that are compared, by key, for networks of these widths."""
    return {
        "padded": Contender("before: padded, cosine", "before", separately(padded(wide))),
        "principal_components": Contender(
            "before: principal components, cosine",
            "before",
            separately(principal_components(narrow)),
        ),
        "relative": Contender(
            "relative representations",
            "peer",
            separately(relative_representations(center=False)),
        ),
        "relative_centered": Contender(
            "relative representations, centred",
            "peer",
            separately(relative_representations(center=True)),
        ),
        "fixed_bandwidth": Contender("bandwidth 1", "peer", separately(fixed_bandwidth(1.0))),
        "median_bandwidth": Contender("median bandwidth", "peer", separately(median_bandwidth)),
        "cca": Contender("CCA, fitted on pairs", "paired", canonical_correlation),
        "aligned": Contender("aligned", "ours", separately(aligned())),
        "aligned_default": Contender(
            "aligned, defaults of grids",
            "ours",
            separately(aligned(TOKENS.density, TOKENS.normalize, TOKENS.standardize)),
        ),
        "aligned_zscore": Contender(
            "aligned, channels z-scored", "ours", separately(aligned(normalize="zscore+unit"))
        ),
    }
