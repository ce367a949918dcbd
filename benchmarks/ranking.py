"""How often do tests of rival models find a difference that isn't there, and one that is?

    python benchmarks/ranking.py --check

Simulated subjects, items and two models, compared by the correlation of squared Euclidean
distances. Items lie in three spaces; every subject sees the first one and more or less of the
second and the third, beside noise of its own; a single one sees as much of both. One model has the
first and second space, the other the first and third. With equal shares on average both are equally
far from the subjects, for other items and subjects too: the paired test must say they differ in
5 % +- 1 of cases. With unequal shares its power stands beside that of the dual bootstrap of
rsatoolbox on the same matrices: as ``eval_dual_bootstrap`` computes it, but all draws at once.
``--peer COUNT`` also runs that function itself on so many cases (``pip install rsatoolbox``), and
says how far its p-values are from these; it takes seconds for each.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from _bars import Bar, add_check, conclude
from _measure import describe_machine, write_json
from relspace.similarity.paired_tests import corrected_variance, spread_of_means

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
    shares = rng.uniform(0.3, 1.1, size=(n_references, 2))
    if n_references == 1:
        # A single reference is taken as it is, so that chance shares would be a difference.
        shares[:] = 0.7
    shares[:, 0] += shift
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


def p_of_dual_bootstrap(references: Numbers, models: Numbers, rng: np.random.Generator) -> float:
    """The p-value of the difference as rsatoolbox has it, from as many draws."""
    n_references, n = references.shape[:2]
    i, j = np.triu_indices(n, 1)
    items = rng.multinomial(n, np.full(n, 1 / n), size=N_DRAWS)
    subjects = rng.multinomial(n_references, np.full(n_references, 1 / n_references), size=N_DRAWS)
    # Pairs of an item with itself are dropped, and others count as often as they are drawn.
    weights = (items[:, i] * items[:, j]).astype(np.float64)
    weights /= weights.sum(axis=1, keepdims=True)
    unit = []
    for matrices in (references, models):
        pairs = matrices[:, None, i, j]
        pairs = pairs - (pairs * weights).sum(axis=-1, keepdims=True)
        unit.append(pairs / np.sqrt((pairs**2 * weights).sum(axis=-1, keepdims=True)))
    of_draws = np.einsum("rbp,mbp,bp->brm", *unit, weights)
    values = correlations(references, models, np.arange(n)[None])[0]
    differences, whole = of_draws[..., 0] - of_draws[..., 1], values[:, 0] - values[:, 1]
    both = (differences * subjects).sum(axis=1) / n_references
    of_references = subjects @ whole / n_references
    parts = [one.var(ddof=1) for one in (both, of_references, differences.mean(axis=1))]
    variance = corrected_variance(*parts, n_references=n_references, n_items=n)
    # The peer's estimate is the mean of the draws.
    statistic = abs(both.mean()) / np.sqrt(variance)
    return float(2 * t.sf(statistic, min(n_references, n) - 1))


def p_of_peer(references: Numbers, models: Numbers) -> float:
    """The p-value of the difference by rsatoolbox itself."""
    RDMs = import_module("rsatoolbox.rdm").RDMs
    ModelFixed = import_module("rsatoolbox.model").ModelFixed
    evaluate = import_module("rsatoolbox.inference").eval_dual_bootstrap
    above = np.triu_indices(references.shape[1], 1)
    fixed = [ModelFixed(str(k), RDMs(one[above][None])) for k, one in enumerate(models)]
    data = RDMs(references[:, above[0], above[1]])
    result = evaluate(fixed, data, method="corr", N=N_DRAWS)
    return float(result.test_all()[0][0, 1])


def share_found(
    n_references: int, n_items: int, shift: float, count: int, n_peer: int, seed: int
) -> dict[str, Any]:
    """How often the models are said to differ, and how often by the dual bootstrap."""
    rng = np.random.default_rng(seed)
    several = n_references > 1
    ours, theirs, apart = [], [], []
    for repetition in range(count):
        sets = simulate(n_references, n_items, shift, rng)
        ours.append(p_of_ours(*sets, rng))
        if several:
            theirs.append(p_of_dual_bootstrap(*sets, rng))
        if several and repetition < n_peer:
            apart.append(abs(p_of_peer(*sets) - theirs[-1]))
    found: dict[str, Any] = {
        "n_references": n_references,
        "n_items": n_items,
        "shift": shift,
        "repetitions": count,
        "found": float(np.mean(np.array(ours) <= ALPHA)),
    }
    if theirs:
        found["dual_bootstrap_found"] = float(np.mean(np.array(theirs) <= ALPHA))
    if apart:
        found["p_of_rsatoolbox_apart"] = float(np.mean(apart))
    return found


def main() -> int:
    """Simulate, print and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--peer", type=int, default=0, help="cases that rsatoolbox itself gets")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "ranking.json")
    add_check(parser)
    arguments = parser.parse_args()
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
