"""Ways of finding an item of one network among the items of another, by shared landmarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from relspace import Aligner
from relspace.kernels.relative import column_profile, standardize_rows
from relspace.space.defaults import TOKENS

#: Landmarks among which neighbourhoods are looked for.
NEIGHBORS = 10


@dataclass(frozen=True, eq=False)
class Views:
    """Two networks' features of the same landmarks and of the same items to match.

    Attributes
    ----------
    landmarks_x, landmarks_y : tensor of shape (m, d) and (m, e)
        Features of the landmarks.
    x, y : tensor of shape (n, d) and (n, e)
        Features of the items.
    """

    landmarks_x: Tensor
    landmarks_y: Tensor
    x: Tensor
    y: Tensor


#: Gives the similarity of every item of the first network to every item of the second.
Matcher = Callable[[Views], Tensor]
#: Describes items by landmarks: (landmarks, items) to (n items, m landmarks).
Description = Callable[[Tensor, Tensor], Tensor]


def affinities(**settings: Any) -> Matcher:
    """This library's rows; keywords as of :class:`relspace.Aligner`."""

    def match(views: Views) -> Tensor:
        x = torch.as_tensor(Aligner(**settings).fit(views.landmarks_x).transform(views.x))
        y = torch.as_tensor(Aligner(**settings).fit(views.landmarks_y).transform(views.y))
        return x @ y.T

    return match


def affinities_by_parts(*, normalize: str, density: float, standardize: str) -> Matcher:
    """The same rows, of which settings that differ in the last step alone share what is before."""

    def match(views: Views) -> Tensor:
        x, y = (
            standardize_rows(
                items.clone(),
                column_profile(of_landmarks, standardize=standardize),
                None,
                how=standardize,
            )
            for of_landmarks, items in _raw_affinities(views, normalize, density)
        )
        return x @ y.T

    return match


@lru_cache(maxsize=1)
def _raw_affinities(
    views: Views, normalize: str, density: float
) -> tuple[tuple[Tensor, Tensor], ...]:
    """Affinities of landmarks and of items to the landmarks, for both networks."""
    found = []
    for landmarks, items in ((views.landmarks_x, views.x), (views.landmarks_y, views.y)):
        aligner = Aligner(normalize=normalize, density=density, standardize="none").fit(landmarks)
        raw = [torch.as_tensor(aligner.affinity(one)) for one in (landmarks, items)]
        found.append((raw[0].fill_diagonal_(1.0), raw[1]))
    return tuple(found)


def without_hubs(matcher: Matcher) -> Matcher:
    """Correct similarities for items that are near to everything (CSLS, Conneau et al. 2018)."""

    def match(views: Views) -> Tensor:
        table = matcher(views)
        k = min(NEIGHBORS, *table.shape)
        of_rows, of_columns = (
            table.topk(k, dim=dim).values.mean(dim, keepdim=True) for dim in (1, 0)
        )
        return 2 * table - of_rows - of_columns

    return match


def by_cosine(describe: Description) -> Matcher:
    """Compare descriptions by the cosine, as relative representations are."""

    def match(views: Views) -> Tensor:
        x = describe(views.landmarks_x, views.x)
        return (
            functional.normalize(x) @ functional.normalize(describe(views.landmarks_y, views.y)).T
        )

    return match


def by_correlation(describe: Description) -> Matcher:
    """Compare descriptions by their correlation over landmarks."""

    def centred(landmarks: Tensor, items: Tensor) -> Tensor:
        rows = describe(landmarks, items)
        return rows - rows.mean(1, keepdim=True)

    return by_cosine(centred)


def by_distance(describe: Description) -> Matcher:
    """Compare descriptions by their Euclidean distance."""
    return lambda views: (
        -torch.cdist(describe(views.landmarks_x, views.x), describe(views.landmarks_y, views.y))
    )


def cosines(landmarks: Tensor, items: Tensor) -> Tensor:
    """Cosine similarity to each landmark (Moschella et al. 2023)."""
    return functional.normalize(items) @ functional.normalize(landmarks).T


def centred_cosines(landmarks: Tensor, items: Tensor) -> Tensor:
    """Cosine similarity after the landmarks' mean is taken off."""
    mean = landmarks.mean(0)
    return cosines(landmarks - mean, items - mean)


def whitened_cosines(landmarks: Tensor, items: Tensor) -> Tensor:
    """Cosine similarity after whitening by the landmarks' covariance."""
    mean, axes = _whitening(landmarks)
    return cosines((landmarks - mean) @ axes, (items - mean) @ axes)


def products(landmarks: Tensor, items: Tensor) -> Tensor:
    """Inner products after the landmarks' mean is taken off, what linear CKA looks at."""
    mean = landmarks.mean(0)
    return (items - mean) @ (landmarks - mean).T


def distances(landmarks: Tensor, items: Tensor) -> Tensor:
    """Euclidean distances, what an RDM holds."""
    mean = landmarks.mean(0)
    return torch.cdist(items - mean, landmarks - mean)


def distance_ranks(landmarks: Tensor, items: Tensor) -> Tensor:
    """Ranks of the distances."""
    return distances(landmarks, items).argsort(1).argsort(1).to(items)


def nearest(landmarks: Tensor, items: Tensor) -> Tensor:
    """Which landmarks are the nearest, as zeros and ones."""
    near = distances(landmarks, items).topk(NEIGHBORS, dim=1, largest=False).indices
    return items.new_zeros(len(items), len(landmarks)).scatter_(1, near, 1.0)


def gaussian(bandwidth: float | None, *, of_median: float = 1.0) -> Description:
    """Gaussian affinities of a given bandwidth, or of one relative to the median distance."""

    def describe(landmarks: Tensor, items: Tensor) -> Tensor:
        sigma = bandwidth
        if sigma is None:
            sigma = of_median * float(torch.pdist(landmarks).median())
        return torch.exp(-distances(landmarks, items).square() / (2 * sigma**2))

    return describe


def rotation(views: Views) -> Tensor:
    """Rotate one network's features onto the other's by their landmarks (Procrustes)."""
    x, y, items_x, items_y = _centred_of_unit_size(views)
    left, _, right = torch.linalg.svd(x.T @ y, full_matrices=False)
    return -torch.cdist(items_x @ left @ right, items_y)


def canonical_correlation(views: Views) -> Tensor:
    """Correlate canonical variates fitted on the landmarks, weighted by their correlations."""
    mean_x, white_x = _whitening(views.landmarks_x)
    mean_y, white_y = _whitening(views.landmarks_y)
    x, y = (views.landmarks_x - mean_x) @ white_x, (views.landmarks_y - mean_y) @ white_y
    left, correlations, right = torch.linalg.svd(x.T @ y / len(x), full_matrices=False)
    items_x = (views.x - mean_x) @ white_x @ left * correlations
    items_y = (views.y - mean_y) @ white_y @ right.T * correlations
    return functional.normalize(items_x) @ functional.normalize(items_y).T


def linear_prediction(views: Views) -> Tensor:
    """Predict each network's features from the other's by ridge regression on the landmarks."""
    x, y, items_x, items_y = _centred_of_unit_size(views)
    forth = items_x @ _ridge(x, y)
    back = items_y @ _ridge(y, x)
    there = functional.normalize(forth) @ functional.normalize(items_y).T
    return there + functional.normalize(items_x) @ functional.normalize(back).T


def _ridge(x: Tensor, y: Tensor) -> Tensor:
    penalty = 1e-2 * x.square().sum() / x.shape[1]
    map_: Tensor = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]).to(x), x.T @ y)
    return map_


def _centred_of_unit_size(views: Views) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean_x, mean_y = views.landmarks_x.mean(0), views.landmarks_y.mean(0)
    x, y = views.landmarks_x - mean_x, views.landmarks_y - mean_y
    size_x, size_y = torch.linalg.matrix_norm(x), torch.linalg.matrix_norm(y)
    return x / size_x, y / size_y, (views.x - mean_x) / size_x, (views.y - mean_y) / size_y


def _whitening(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, and the map onto principal axes of unit variance, the smallest of them damped."""
    mean = landmarks.mean(0)
    _, deviations, axes = torch.linalg.svd(landmarks - mean, full_matrices=False)
    deviations = deviations / len(landmarks) ** 0.5
    damped = deviations.square() + 1e-2 * deviations.square().mean()
    return mean, axes.T / damped.sqrt()


OURS, OURS_TOKENS = "affinity (defaults)", "affinity (defaults of tokens)"
RIDGE = "ridge regression"

#: Every way of matching, by title.
MATCHERS: dict[str, Matcher] = {
    OURS: affinities(),
    OURS_TOKENS: affinities(**asdict(TOKENS)),
    "relative representations": by_cosine(cosines),
    "centred cosine": by_cosine(centred_cosines),
    "whitened cosine": by_cosine(whitened_cosines),
    "RBF, median distance": by_distance(gaussian(None)),
    "RBF, 0.4 median": by_correlation(gaussian(None, of_median=0.4)),
    "RBF, sigma = 1": by_distance(gaussian(1.0)),
    "inner products": by_cosine(products),
    "distances, correlation": by_correlation(distances),
    "distances, cosine": by_cosine(distances),
    "distances, ranks": by_correlation(distance_ranks),
    "nearest landmarks": by_cosine(nearest),
    "Procrustes rotation": rotation,
    "CCA": canonical_correlation,
    RIDGE: linear_prediction,
}

#: With hubs corrected. The settings of the first were chosen for it, on the choosing half.
HALF_WHITENED = affinities(normalize="half-whiten+unit", density=0.2, standardize="half-whiten")
CORRECTED: dict[str, Matcher] = {
    "affinity (half-whitened), CSLS": without_hubs(HALF_WHITENED),
    **{f"{name}, CSLS": without_hubs(MATCHERS[name]) for name in (OURS, OURS_TOKENS)},
    **{f"{name}, CSLS": without_hubs(MATCHERS[name]) for name in ("CCA", RIDGE)},
    **{name: MATCHERS[name] for name in (OURS, OURS_TOKENS, "CCA", RIDGE)},
}

#: What a measure looks at, as a way of matching items: its counterpart in task 2.
COUNTERPARTS = {
    "affinity": OURS,
    "rsa": "distances, correlation",
    "rsa_spearman": "distances, ranks",
    "rsa_kendall": "distances, ranks",
    "rsa_cosine": "distances, cosine",
    "cka": "inner products",
    "cka_biased": "inner products",
    "cka_rbf": "RBF, 0.4 median",
    "cka_rbf_biased": "RBF, 0.4 median",
    "distance_correlation": "distances, correlation",
    "procrustes": "Procrustes rotation",
    "size_and_shape_procrustes": "Procrustes rotation",
    "crossvalidated_procrustes": "Procrustes rotation",
    "regularized_cca": "Procrustes rotation",
    "mutual_neighbors": "nearest landmarks",
    "jaccard_neighbors": "nearest landmarks",
    "cknna": "nearest landmarks",
    "second_order_cosine": "nearest landmarks",
    "cca": "CCA",
    "svcca": "CCA",
    "pwcca": "CCA",
    "crossvalidated_cca": "CCA",
    "gulp": RIDGE,
    "linear_predictivity": RIDGE,
    "target_predictivity": RIDGE,
}
