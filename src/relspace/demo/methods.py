"""Ways to bring two networks' tokens side by side: none, alignment, and other methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from relspace.kernels import rbf_affinity, squared_distances
from relspace.space.aligner import Aligner

#: Draws of the signs of principal components, over which what they find is averaged.
N_SIGNS = 4

#: Turns one network's tokens, given its features of the landmarks, into rows to be compared.
OneSided = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Sides:
    """What a method works on: the tokens asked for, and features of the shared landmarks.

    Attributes
    ----------
    X, Y : tensor of shape (n, d) and (m, e)
        Tokens of the first and of the second network.
    landmarks_x, landmarks_y : tensor of shape (l, d) and (l, e)
        Their features at the same positions in other images.
    """

    X: Tensor
    Y: Tensor
    landmarks_x: Tensor
    landmarks_y: Tensor


#: Turns the tokens of both networks into rows whose inner products compare them.
Method = Callable[[Sides], tuple[Tensor, Tensor]]


def separately(bring: OneSided) -> Method:
    """A method that treats either network by itself."""
    return lambda sides: (bring(sides.landmarks_x, sides.X), bring(sides.landmarks_y, sides.Y))


def unit(rows: Tensor) -> Tensor:
    """Bring rows to length 1."""
    return functional.normalize(rows)


def padded(width: int) -> OneSided:
    """Before: features as they are, filled up with zeros to a common width, by cosine."""
    return lambda _, tokens: unit(functional.pad(tokens, (0, width - tokens.shape[1])))


def principal_components(width: int) -> OneSided:
    """Before: the same number of principal components of either network, by cosine.

    The sign of an axis means nothing (:func:`over_signs`); here its largest weight is positive.
    """

    def bring(landmarks: Tensor, tokens: Tensor) -> Tensor:
        mean = landmarks.mean(0)
        axes = torch.linalg.svd((landmarks - mean).double(), full_matrices=False).Vh[:width]
        axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
        return unit((tokens - mean) @ axes.T.to(tokens))

    return bring


def random_signs(sets: Mapping[str, Tensor], random_state: int) -> dict[str, Tensor]:
    """Draw the signs of all axes of some sets at random."""
    generator = torch.Generator().manual_seed(random_state)
    return {
        name: rows * (torch.randint(0, 2, (1, rows.shape[1]), generator=generator) * 2 - 1)
        for name, rows in sets.items()
    }


def over_signs(method: Method) -> list[Method]:
    """A method with the signs of one side's axes drawn at random, several times."""

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
    """Affinities to the landmarks with a bandwidth given, compared by cosine."""

    def bring(landmarks: Tensor, tokens: Tensor) -> Tensor:
        return unit(torch.as_tensor(rbf_affinity(tokens, landmarks, sigma=sigma)))

    return bring


def median_bandwidth(landmarks: Tensor, tokens: Tensor) -> Tensor:
    """Affinities whose bandwidth is the landmarks' median distance, compared by cosine."""
    squared = torch.as_tensor(squared_distances(landmarks))
    apart = ~torch.eye(len(landmarks), dtype=torch.bool)
    sigma = float(squared[apart].median().sqrt())
    return unit(torch.as_tensor(rbf_affinity(tokens, landmarks, sigma=sigma)))


def canonical_correlation(sides: Sides, ridge: float = 1e-2) -> tuple[Tensor, Tensor]:
    """Canonical correlation analysis, fitted on the landmarks as pairs, compared by cosine.

    The whitening is regularised by a share of the mean variance, and directions are weighted by
    their correlation.
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
