"""The mean Jaccard index of neighbourhoods over all ways to break ties, in closed form."""

from __future__ import annotations

import torch

from relspace._core.memory import row_slices
from relspace.measures.neighborhoods import Lookup, Paired, SharedCandidates

_BLOCK_BYTES = 2**26


def expected_jaccard(shared: SharedCandidates, paired: Paired, lookup: Lookup) -> torch.Tensor:
    """Mean Jaccard index over all ways to break ties in each set: (r, b) in float64.

    Breaking ties draws from the tied items without replacement. So the number of shared neighbours
    is a sum of hypergeometric counts: of tied items of the first set that are sure neighbours in
    the second (u) or tied there (v), and, given v, of what the second set draws from those that
    are neighbours in the first (h).
    """
    x, y = paired.of, lookup.of
    assert shared.sure_tied is not None
    assert shared.tied_sure is not None
    assert shared.tied is not None
    shape = paired.items.shape
    of_second = (of[lookup.rows, None].expand(shape) for of in (y.n_tied, y.k - y.n_sure))
    cases = torch.stack(
        [
            shared.sure.long(),
            shared.sure_tied.long(),
            shared.tied_sure.long(),
            shared.tied.long(),
            x.n_tied[paired.items],
            (x.k - x.n_sure)[paired.items],
            *of_second,
        ]
    )
    # Each case takes k^3 steps, and few of them differ.
    cases, which = torch.unique(cases.flatten(1), dim=1, return_inverse=True)
    values = torch.empty(cases.shape[1], dtype=torch.float64, device=cases.device)
    for some in row_slices(len(values), 48 * (x.k + 1) ** 2, _BLOCK_BYTES):
        values[some] = _mean_of_cases(cases[:, some], x.k, max(len(x), len(y)))
    return values[which].view(shape)


def _mean_of_cases(cases: torch.Tensor, k: int, n_items: int) -> torch.Tensor:
    """Mean Jaccard index for cases of counts: (n_cases,)."""
    sure, sure_tied, tied_sure, tied, n_x, draws_x, n_y, draws_y = cases[:, :, None]
    factorials = torch.lgamma(
        torch.arange(1, n_items + 2, dtype=torch.float64, device=cases.device)
    )
    count = torch.arange(k + 1, device=cases.device)
    v = count[None]
    of_v = _hypergeometric(v, tied, n_x - tied, draws_x, factorials)
    # What is left of the first set's ties once v of them are tied in the second, too.
    u_of_v = _hypergeometric(
        count[None, None],
        tied_sure[:, :, None],
        (n_x - tied - tied_sure)[:, :, None],
        (draws_x - v)[:, :, None],
        factorials,
    )
    marked = (sure_tied + v)[:, :, None]
    h_of_v = _hypergeometric(
        count[None, None], marked, n_y[:, :, None] - marked, draws_y[:, :, None], factorials
    )
    n_shared = (sure[:, :, None] + count[:, None] + count).clamp_max(k).to(torch.float64)
    jaccard = n_shared / (2 * k - n_shared)
    mean: torch.Tensor = (of_v * ((u_of_v @ jaccard) * h_of_v).sum(dim=2)).sum(dim=1)
    return mean


def _hypergeometric(
    drawn: torch.Tensor,
    marked: torch.Tensor,
    others: torch.Tensor,
    draws: torch.Tensor,
    factorials: torch.Tensor,
) -> torch.Tensor:
    """Probability that ``drawn`` marked ones are among the draws; 0 where impossible."""
    logarithm = _log_binomial(marked, drawn, factorials)
    logarithm = logarithm + _log_binomial(others, draws - drawn, factorials)
    # Impossible draws have probability 0 rather than NaN.
    return torch.exp(logarithm - _log_binomial(marked + others, draws, factorials).clamp_min(0.0))


def _log_binomial(n: torch.Tensor, k: torch.Tensor, factorials: torch.Tensor) -> torch.Tensor:
    possible = (k >= 0) & (k <= n)
    n = n.clamp_min(0)
    k = torch.minimum(n, k.clamp_min(0))
    value = factorials[n] - factorials[k] - factorials[n - k]
    return value.masked_fill_(~possible, -torch.inf)
