"""How often do tests of rival models find a difference that isn't there, and one that is?

    python benchmarks/ranking.py --check

Simulated subjects, items and two models, compared by the correlation of squared Euclidean
distances. Items lie in three spaces; every subject sees the first one and more or less of the
second and the third, beside noise of its own. One model has the first and second space, the other
the first and third. With equal shares on average both are equally far from the subjects, for other
items and subjects too: the paired test must say they differ in 5 % +- 1 of cases. With unequal
shares its power stands beside that of ``eval_dual_bootstrap`` of rsatoolbox on the same matrices
(``pip install rsatoolbox``; left out with ``--peer 0``).
"""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _bars import Bar, add_check, conclude
from _measure import describe_machine, write_json
from relspace.similarity.paired_tests import spread_of_means

HERE = Path(__file__).resolve().parent
ALPHA = 0.05
N_DRAWS = 200
#: References, items.
CASES = ((1, 40), (2, 40), (6, 24), (6, 60), (20, 40))
#: How much more subjects see of the second space than of the third, where there is a difference.
SHIFT = 0.3
_WIDTH = 4
#: By how much the share of false alarms may miss the level.
_TOLERANCE = 0.01

Numbers = NDArray[np.float64]


def distances(features: Numbers) -> Numbers:
    """Squared Euclidean distances (..., n, n)."""
    norms = np.square(features).sum(axis=-1)
    products = features @ features.swapaxes(-1, -2)
    found: Numbers = norms[..., :, None] + norms[..., None, :] - 2 * products
    return found


def simulate(
    n_references: int, n_items: int, shift: float, rng: np.random.Generator
) -> tuple[Numbers, Numbers]:
    """Matrices of the subjects (R, n, n) and of the two models (2, n, n)."""
    spaces = rng.normal(size=(3, n_items, _WIDTH))
    shares = rng.uniform(0.3, 1.1, size=(n_references, 2)) + np.array([shift, 0.0]) / 2
    seen = [spaces[0] + np.zeros((n_references, 1, 1))]
    seen += [shares[:, k, None, None] * spaces[k + 1] for k in (0, 1)]
    whole = np.concatenate(seen, axis=2)
    noise = 1.0 * rng.normal(size=whole.shape)
    models = np.stack([np.concatenate([spaces[0], spaces[k]], axis=1) for k in (1, 2)])
    return distances(whole + noise), distances(models)


def correlations(references: Numbers, models: Numbers, rows: NDArray[np.int64]) -> Numbers:
    """Correlations (n_draws, R, M) of the matrices of some items, rows (n_draws, m)."""
    i, j = np.triu_indices(rows.shape[1], 1)
    unit = []
    for matrices in (references, models):
        pairs = matrices[:, rows[:, i], rows[:, j]]
        pairs = pairs - pairs.mean(axis=-1, keepdims=True)
        unit.append(pairs / np.linalg.norm(pairs, axis=-1, keepdims=True))
    found: Numbers = np.einsum("rbp,mbp->brm", *unit)
    return found


def p_of_ours(references: Numbers, models: Numbers, rng: np.random.Generator) -> float:
    """The p-value of the difference, as ``compare_to`` computes it from the same halves."""
    n = references.shape[1]
    halves = np.stack([np.sort(rng.permutation(n)[: n // 2]) for _ in range(N_DRAWS)])
    values = correlations(references, models, np.arange(n)[None])[0]
    draws = correlations(references, models, halves)
    difference = values[:, :1] - values[:, 1:]
    spread = spread_of_means(difference, draws[:, :, :1] - draws[:, :, 1:], n)
    return float(spread.p_two_sided(difference.mean(axis=0), 1e-6)[0])


def p_of_peer(references: Numbers, models: Numbers) -> float:
    """The p-value of the difference by rsatoolbox."""
    RDMs = import_module("rsatoolbox.rdm").RDMs
    ModelFixed = import_module("rsatoolbox.model").ModelFixed
    evaluate = import_module("rsatoolbox.inference").eval_dual_bootstrap
    above = np.triu_indices(references.shape[1], 1)
    fixed = [ModelFixed(str(k), RDMs(one[above][None])) for k, one in enumerate(models)]
    data = RDMs(references[:, above[0], above[1]])
    return float(evaluate(fixed, data, method="corr", N=N_DRAWS).test_pairwise()[0, 1])


def share_found(
    n_references: int, n_items: int, shift: float, count: int, n_peer: int, seed: int
) -> dict[str, Any]:
    """How often the models are said to differ, by both, the peer on the first cases only."""
    rng = np.random.default_rng(seed)
    ours, theirs = [], []
    for repetition in range(count):
        sets = simulate(n_references, n_items, shift, rng)
        ours.append(p_of_ours(*sets, rng) <= ALPHA)
        if repetition < n_peer and n_references > 1:
            theirs.append(p_of_peer(*sets) <= ALPHA)
    found = {
        "n_references": n_references,
        "n_items": n_items,
        "shift": shift,
        "repetitions": count,
        "found": float(np.mean(ours)),
    }
    if theirs:
        found |= {
            "peer_repetitions": len(theirs),
            "found_of_these": float(np.mean(ours[: len(theirs)])),
            "peer_found": float(np.mean(theirs)),
        }
    return found


def main() -> int:
    """Simulate, print and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--peer", type=int, default=100, help="cases that rsatoolbox gets")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "ranking.json")
    add_check(parser)
    arguments = parser.parse_args()
    # The peer shows a bar for every call.
    os.environ["TQDM_DISABLE"] = "1"
    np.random.seed(0)  # noqa: NPY002, the peer draws from the global state
    machine = describe_machine(1)
    settings = {"draws": N_DRAWS, "alpha": ALPHA, "width": _WIDTH}
    print(machine, settings, sep="\n")
    results, bars = [], []
    for seed, (n_references, n_items) in enumerate(CASES):
        for shift in (0.0, SHIFT):
            one = share_found(
                n_references, n_items, shift, arguments.repetitions, arguments.peer, seed
            )
            results.append(one)
            print(one, flush=True)
            if not shift:
                off = abs(one["found"] - ALPHA)
                what = f"{n_references} references, {n_items} items: false alarms off 5 %, percent"
                bars.append(Bar(what, 100 * off, 100 * _TOLERANCE))
    write_json(
        arguments.output,
        {"machine": machine, "settings": settings, "results": results}
        | {"bars": [bar.to_dict() for bar in bars]},
    )
    return conclude(bars, check=arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
