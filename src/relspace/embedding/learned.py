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
    """Places by UMAP."""
    try:
        from umap import UMAP
    except ImportError as error:
        raise MissingDependencyError(
            'method "umap" needs umap-learn; install it with: pip install "relspace[umap]"'
        ) from error
    return np.asarray(UMAP(n_components=3, random_state=seed % 2**32).fit_transform(rows))
