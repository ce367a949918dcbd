"""Scores of tables of similarities, and ranks of methods over many of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def identification_rate(similarity: Tensor) -> float:
    """How often the most similar column of a row is the row's own, both ways.

    Kornblith et al. (2019, section 6.1). Of columns that tie for the first place one is drawn, so
    a measure that gives the same value everywhere identifies at chance.

    Parameters
    ----------
    similarity : tensor of shape (l, l)
        Layers of one network by the same layers of another.
    """
    rates = []
    for table in (similarity, similarity.T):
        best = table == table.amax(dim=1, keepdim=True)
        rates.append((best.diagonal() / best.sum(1)).mean())
    return float(torch.stack(rates).mean())


def average_precision(scores: Tensor, is_positive: Tensor) -> float:
    """Area under the precision-recall curve as a sum of steps; ties are one step."""
    order = scores.argsort(descending=True)
    hits, values = is_positive[order].double(), scores[order]
    last_of_ties = torch.ones(len(values), dtype=torch.bool)
    last_of_ties[:-1] = values[:-1] != values[1:]
    found = hits.cumsum(0)[last_of_ties]
    precision = found / (torch.arange(1, len(hits) + 1)[last_of_ties])
    gained = torch.diff(found, prepend=found.new_zeros(1))
    return float((precision * gained).sum() / hits.sum())


def group_scores(similarity: Tensor, groups: Tensor) -> tuple[float, float]:
    """How well similarities tell groups of networks apart (Klabunde et al. 2024, section 3.2).

    Parameters
    ----------
    similarity : tensor of shape (n, n)
        Networks by networks.
    groups : LongTensor of shape (n,)
        The group of each.

    Returns
    -------
    average_precision : float
        Of pairs within a group against pairs with one network in it, averaged over groups.
    conformity : float
        How often two networks of a group are at least as similar as one of them and a network of
        another group, averaged over groups.
    """
    precisions, conformities = [], []
    for group in groups.unique():  # type: ignore[no-untyped-call]
        inside = (groups == group).nonzero().flatten()
        outside = (groups != group).nonzero().flatten()
        across = similarity[inside][:, outside]
        within = similarity[inside][:, inside]
        upper = torch.triu_indices(len(inside), len(inside), 1)
        pairs = within[upper[0], upper[1]]
        scores = torch.cat([pairs, across.flatten()])
        precisions.append(average_precision(scores, torch.arange(len(scores)) < len(pairs)))
        at_least = (within[:, :, None] >= across[:, None, :]).double().mean(2)
        conformities.append(at_least[~torch.eye(len(inside), dtype=torch.bool)].mean())
    return sum(precisions) / len(precisions), float(torch.stack(conformities).mean())


def order_conformity(similarity: Tensor) -> float:
    """How often nearer layers of one network are at least as similar as farther ones.

    For layers i < j < k, i and j as well as j and k have to be as similar as i and k.
    """
    i, j, k = torch.combinations(torch.arange(len(similarity)), 3).T
    far = similarity[i, k]
    holds = torch.cat([similarity[i, j] >= far, similarity[j, k] >= far])
    return float(holds.double().mean())


@dataclass(frozen=True)
class Mean:
    """A mean over cells with its standard error."""

    value: float
    standard_error: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """Average values; the standard error of fewer than two is not a number."""
        cells = torch.tensor(values, dtype=torch.float64)
        error = float(cells.std() / math.sqrt(len(cells))) if len(cells) > 1 else math.nan
        return cls(float(cells.mean()), error, len(cells))

    def __str__(self) -> str:
        return format(self, ".3f")

    def __format__(self, form: str) -> str:
        return f"{self.value:{form}} ± {self.standard_error:{form}}"


def ranks(values: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Rank methods cell by cell, 1 for the highest value; methods that tie share their ranks.

    Parameters
    ----------
    values : mapping of str to sequence of float
        For each method its values, all over the same cells.
    """
    table = torch.tensor(list(values.values()), dtype=torch.float64)
    above = (table[None] > table[:, None]).sum(1)
    equal = (table[None] == table[:, None]).sum(1)
    ranked = above + (equal + 1) / 2
    return {name: row.tolist() for name, row in zip(values, ranked, strict=True)}


def mean_of_means(means: Sequence[Mean]) -> Mean:
    """Average means that are independent of each other."""
    value = sum(one.value for one in means) / len(means)
    error = math.sqrt(sum(one.standard_error**2 for one in means)) / len(means)
    return Mean(value, error, len(means))
