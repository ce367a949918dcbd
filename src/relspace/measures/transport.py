"""Assignment and optimal transport between the units of two sets, from how alike any two are."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

_Matrix = NDArray[np.float64]


def best_assignments(products: torch.Tensor) -> torch.Tensor:
    """The largest sums (b,) over pairs that match each unit of the smaller set, for (b, r, s)."""
    return _each(products, _best_assignment)


def best_transports(products: torch.Tensor) -> torch.Tensor:
    r"""The largest :math:`\langle P, C \rangle` (b,) over transport plans, for C of (b, r, s).

    Plans have rows that sum to 1 / r and columns that sum to 1 / s.
    """
    return _each(products, _best_transport)


def _each(products: torch.Tensor, best: Callable[[_Matrix], float]) -> torch.Tensor:
    values = [best(one) for one in products.cpu().numpy()]
    return torch.tensor(values, dtype=torch.float64, device=products.device)


def _best_assignment(products: _Matrix) -> float:

    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(products, maximize=True)
    return float(products[rows, columns].sum())


def _best_transport(products: _Matrix) -> float:
    r, s = products.shape
    if r > s:
        products, r, s = products.T, s, r
    if s % r == 0 and s // r <= 4:
        value = _best_assignment(np.repeat(products, s // r, axis=0)) / s
    else:
        moved: float = (cheapest_flow(-products) * products).sum()
        value = moved * math.gcd(r, s) / (r * s)
    return float(value)


def cheapest_flow(costs: _Matrix) -> NDArray[np.int64]:
    """The cheapest flow (r, s) in which every row sends as much, and every column takes as much.

    Shortest augmenting paths with potentials, as the Hungarian method, of whole numbers of flow.
    """
    r, s = costs.shape
    common = math.gcd(r, s)
    left = np.full(r, s // common)
    room = np.full(s, r // common)
    flow = np.zeros((r, s), dtype=np.int64)
    senders: list[set[int]] = [set() for _ in range(s)]
    v = costs.min(axis=0)
    u = (costs - v).min(axis=1)
    for start in range(r):
        while left[start]:
            # Dijkstra's method over columns; rows are reached along flow, which costs nothing.
            distance = costs[start] - u[start] - v
            reached_from = np.full(s, start)
            entered: dict[int, int] = {start: -1}
            row_distance = {start: 0.0}
            closed = np.zeros(s, dtype=bool)
            while True:
                open_distance = np.where(closed, np.inf, distance)
                column = int(open_distance.argmin())
                nearest = float(open_distance[column])
                closed[column] = True
                if room[column]:
                    break
                for row in senders[column]:
                    if row in entered:
                        continue
                    entered[row] = column
                    row_distance[row] = nearest
                    through = nearest + costs[row] - u[row] - v
                    shorter = (through < distance) & ~closed
                    distance[shorter] = through[shorter]
                    reached_from[shorter] = row
            for row, far in row_distance.items():
                u[row] += nearest - far
            v[closed] -= nearest - distance[closed]
            path = []
            end, amount = column, min(left[start], room[column])
            while True:
                row = int(reached_from[end])
                path.append((row, end, 1))
                if row == start:
                    break
                end = entered[row]
                path.append((row, end, -1))
                amount = min(amount, flow[row, end])
            for row, at, sign in path:
                flow[row, at] += sign * amount
                if flow[row, at]:
                    senders[at].add(row)
                else:
                    senders[at].discard(row)
            left[start] -= amount
            room[column] -= amount
    return flow
