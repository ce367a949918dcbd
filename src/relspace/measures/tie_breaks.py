"""Expectation over ties broken at random: the mean Jaccard index of neighbourhoods, in full."""

from __future__ import annotations

import torch

from relspace._core.memory import row_slices
from relspace.measures.neighborhoods import Board, Paired, SharedCandidates

_BLOCK_BYTES = 2**26


def expected_jaccard(shared: SharedCandidates, paired: Paired, board: Board) -> torch.Tensor:
    """Mean Jaccard index over all ways to break ties in each set: (r, b) in float64.

    Which of the tied items have a place is a draw without replacement. So what is shared is a sum
    of hypergeometric counts: of tied items of the first set that surely are neighbours in the
    second (u) and that are tied there (v), and, given v, of what the second set draws from those
    that are neighbours in the first (h).

    Parameters
    ----------
    shared : SharedCandidates
        How many candidates of either kind the sets share.
    paired : Paired
        The first set.
    board : Board
        The second.
    """
    x, y = paired.of, board.of
    assert shared.sure_tied is not None
    assert shared.tied_sure is not None
    assert shared.tied is not None
    shape = paired.items.shape
    of_second = (of[board.rows, None].expand(shape) for of in (y.n_tied, y.k - y.n_sure))
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
    # Few cases are different, and each takes k^3 steps.
    cases, which = torch.unique(cases.flatten(1), dim=1, return_inverse=True)
    values = torch.empty(cases.shape[1], dtype=torch.float64, device=cases.device)
    for some in row_slices(len(values), 48 * (x.k + 1) ** 2, _BLOCK_BYTES):
        values[some] = _mean_of_cases(cases[:, some], x.k, max(len(x), len(y)))
    return values[which].view(shape)


def _mean_of_cases(cases: torch.Tensor, k: int, n_items: int) -> torch.Tensor:
    """Mean Jaccard index for cases of counts: (n_cases,)."""
    sure, sure_tied, tied_sure, tied, n_x, places_x, n_y, places_y = cases[:, :, None]
    factorials = torch.lgamma(
        torch.arange(1, n_items + 2, dtype=torch.float64, device=cases.device)
    )
    count = torch.arange(k + 1, device=cases.device)
    v = count[None]
    of_v = _hypergeometric(v, tied, n_x - tied, places_x, factorials)
    # What is left of the first set's ties once v of them are tied in the second, too.
    u_of_v = _hypergeometric(
        count[None, None],
        tied_sure[:, :, None],
        (n_x - tied - tied_sure)[:, :, None],
        (places_x - v)[:, :, None],
        factorials,
    )
    marked = (sure_tied + v)[:, :, None]
    h_of_v = _hypergeometric(
        count[None, None], marked, n_y[:, :, None] - marked, places_y[:, :, None], factorials
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
    """Probability that so many of the marked are among the draws; 0 where it can't be."""
    logarithm = _log_binomial(marked, drawn, factorials)
    logarithm = logarithm + _log_binomial(others, draws - drawn, factorials)
    # Of what can't be drawn the probability is 0, not undefined.
    return torch.exp(logarithm - _log_binomial(marked + others, draws, factorials).clamp_min(0.0))


def _log_binomial(n: torch.Tensor, k: torch.Tensor, factorials: torch.Tensor) -> torch.Tensor:
    possible = (k >= 0) & (k <= n)
    n = n.clamp_min(0)
    k = torch.minimum(n, k.clamp_min(0))
    value = factorials[n] - factorials[k] - factorials[n - k]
    return value.masked_fill_(~possible, -torch.inf)
