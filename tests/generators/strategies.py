"""Hypothesis strategies of feature sets."""

from __future__ import annotations

import torch
from hypothesis import strategies as st


@st.composite
def feature_sets(
    draw: st.DrawFn,
    *,
    min_items: int = 4,
    max_items: int = 40,
    max_features: int = 12,
    dtype: torch.dtype = torch.float64,
) -> torch.Tensor:
    """Gaussian, heavy-tailed or clustered features of any small shape."""
    n = draw(st.integers(min_items, max_items))
    d = draw(st.integers(1, max_features))
    kind = draw(st.sampled_from(["gaussian", "heavy", "clusters"]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    X = torch.randn(n, d, generator=generator, dtype=torch.float64)
    if kind == "heavy":
        X = X * torch.rand(n, 1, generator=generator, dtype=torch.float64).clamp_min(0.05) ** -1.0
    elif kind == "clusters":
        X = X + 5 * torch.randint(0, 2, (n, 1), generator=generator)
    return X.to(dtype)


def rotations(d: int, seed: int, *, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """A random orthogonal matrix; about half of them reflect."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0].to(dtype)
