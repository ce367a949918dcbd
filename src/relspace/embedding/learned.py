"""Learned ways to three dimensions: t-SNE and UMAP, which need packages of their own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from relspace.errors import MissingDependencyError


def learn_tsne(rows: NDArray[np.floating], seed: int) -> NDArray[np.floating]:
    """Places by openTSNE in two dimensions; the third is 0."""
    try:
        from openTSNE import TSNE
    except ImportError as error:
        raise MissingDependencyError(
            'method "tsne" needs openTSNE; install it with: pip install "relspace[tsne]"'
        ) from error
    plane = np.asarray(TSNE(n_components=2, random_state=seed % 2**32).fit(rows))
    return np.concatenate([plane, np.zeros((len(plane), 1))], axis=1)


def learn_umap(rows: NDArray[np.floating], seed: int) -> NDArray[np.floating]:
    """Places by UMAP, whose axes come in no order, turned to fall in variance."""
    try:
        from umap import UMAP
    except ImportError as error:
        raise MissingDependencyError(
            'method "umap" needs umap-learn; install it with: pip install "relspace[umap]"'
        ) from error
    places = np.asarray(UMAP(n_components=3, random_state=seed % 2**32).fit_transform(rows))
    centered = places - places.mean(axis=0)
    axes = np.linalg.svd(centered, full_matrices=False)[2]
    signs = np.sign(axes[np.arange(3), np.abs(axes).argmax(axis=1)])
    turned: NDArray[np.floating] = centered @ (axes * signs[:, None]).T
    return turned
