"""Are p-values uniform for unrelated features, small for related ones, and do intervals cover?

    python benchmarks/calibration.py

Every measure is asked by every function that gives p-values: two sets, layers of two models, layers
of several; features in memory and summed over; single items and groups. The share of p-values up to
0.05 and up to 0.5 must lie within the bounds that a binomial distribution of exact p-values has.
Where permuted values are often equal to the observed one, p-values are conservative: only the upper
bound counts there. Of 95 % intervals it is the share that holds the mean value over samples of as
many items, which must be consistent with at least 85 %.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

import relspace
from _bars import Bar, add_check, conclude
from _measure import describe_machine, write_json
from relspace import measures
from relspace.errors import RelspaceWarning
from relspace.measures import Measure
from relspace.rows.formats.memory import ArrayRows

HERE = Path(__file__).resolve().parent
Matrix = NDArray[np.float64]

FUNCTIONS = ("compare", "compare_layers", "compare_models")
#: Items that are held, groups of them, and items that are summed over.
N_ITEMS, N_GROUPS, N_SUMMED = 40, 16, 600
N_PERMUTATIONS = 19
N_BOOTSTRAPS = 60
#: Widths of the layers of each model; of two sets, the first layers of the first two models.
WIDTHS = {"a": (5, 4), "b": (7, 4), "c": (6,)}
TIED = ("classes", "binary", "integers")
#: Measures of neighbours in their order.
ORDERS = ("rank_neighbors", "lcs_neighbors", "edit_neighbors", "cycle_neighbors")
#: Of exact p-values one check in so many lies outside its bounds.
ONE_IN = 10_000
#: Related features must have the smallest p-value there is at least this often; by measures that
#: match units one by one less often, for those here are mixtures of what is shared.
LEAST_POWER, LEAST_POWER_OF_UNITS = 0.8, 0.25
#: Intervals of few items, 95 % of many, must hold the mean value at least this often.
LEAST_COVERAGE = 0.85
# Measures that see clusters of items, and nothing within one.
_OF_CLUSTERS = ("merge_orders",)
_TIME_TAKING = ("rsa_kendall", "linear_predictivity", "target_predictivity")


@dataclass(frozen=True)
class Case:
    """One way to get a p-value.

    Attributes
    ----------
    function : str
        Of :data:`FUNCTIONS`.
    measure : Measure
        With few enough neighbours for a few items.
    summed : bool
        Whether features are summed over, rather than held in memory.
    grouped : bool
        Whether items come in groups of four, alike within, which are permuted as a whole.
    data : str
        ``"continuous"``, or a kind of :data:`TIED` features.
    """

    function: str
    measure: Measure
    summed: bool = False
    grouped: bool = False
    data: str = "continuous"

    @property
    def name(self) -> str:
        """What tables call it."""
        how = "summed" if self.summed else "groups" if self.grouped else "held"
        parts = [self.function, called(self.measure), how]
        return " ".join(parts if self.data == "continuous" else [*parts, self.data])

    @property
    def is_exact(self) -> bool:
        """Whether permuted values are all but never equal to the observed one."""
        return self.data == "continuous" and self.measure.name not in (
            *("mutual_neighbors", "jaccard_neighbors", "tree_edges", *ORDERS),
        )

    @property
    def least_power(self) -> float:
        """How often related features must have the smallest p-value there is."""
        matches_units = self.measure.name.endswith(("_matching", "_matching_distance"))
        return LEAST_POWER_OF_UNITS if matches_units else LEAST_POWER

    @property
    def takes_long(self) -> bool:
        """Whether one comparison takes many times as long as by other measures."""
        return self.measure.name in _TIME_TAKING


@dataclass(frozen=True)
class Share:
    """How many of some p-values are small, and how many of exact ones would be."""

    level: float
    found: int
    of: int
    low: int
    high: int

    @property
    def fits(self) -> bool:
        """Whether it is within its bounds."""
        return self.low <= self.found <= self.high

    def __str__(self) -> str:
        return f"{self.found / self.of:.3f} [{self.low / self.of:.3f}, {self.high / self.of:.3f}]"


@dataclass(frozen=True)
class Row:
    """What was found of a case."""

    name: str
    shares: tuple[Share, ...] = ()
    power: float | None = None
    coverage: Share | None = None
    seconds: float = field(default=0.0, compare=False)

    @property
    def fits(self) -> bool:
        """Whether all shares are within their bounds."""
        return all(one.fits for one in (*self.shares, self.coverage) if one is not None)


def called(measure: Measure) -> str:
    """A measure by its name, and what differs from its record."""
    usual = measures.get(measure.name).parameters
    changed = {k: v for k, v in measure.parameters.items() if usual[k] != v and k != "k"}
    return " ".join([measure.name, *(f"{key}={value}" for key, value in changed.items())])


def small(name: str, *, k: int = 4, **parameters: Any) -> Measure:
    """A measure with few enough neighbours for a few items."""
    if "k" in measures.get(name).parameters:
        parameters = {"k": k} | parameters
    return measures.get(name, **parameters)


def every_measure(*, grouped: bool = False) -> list[Measure]:
    """All measures, and an asymmetric form of those that are symmetric by default.

    Neighbours reach beyond an item's own group, of which the permutation says nothing.
    """
    k = 14 if grouped else 4
    found = [small(measure.name, k=k) for measure in map(measures.get, measures.names())]
    return [
        *found,
        small("linear_predictivity", predicted="second"),
        small("correlation_matching", matched="first"),
    ]


def tied_measures() -> list[Measure]:
    """Measures of neighbours and ranks, which ties concern."""
    by_rank = [
        small(name, distance=distance)
        for name in ("rsa_spearman", "rsa_kendall")
        for distance in ("correlation", "euclidean")
    ]
    names = ("mutual_neighbors", "jaccard_neighbors", "second_order_cosine", "cknna", *ORDERS)
    near = [small(name) for name in names]
    trees = [small("merge_orders"), small("tree_edges")]
    return [*by_rank, *near, *trees, small("mutual_neighbors", metric="euclidean")]


def cases() -> Iterator[Case]:
    """Every case that gives a p-value."""
    for function, measure in itertools.product(FUNCTIONS, every_measure()):
        yield Case(function, measure)
        if measure.streams:
            yield Case(function, measure, summed=True)
    for function, measure in itertools.product(FUNCTIONS, every_measure(grouped=True)):
        yield Case(function, measure, grouped=True)
    for measure, data in itertools.product(tied_measures(), TIED):
        yield Case("compare", measure, data=data)


def refused_cases() -> Iterator[Case]:
    """Every case that is refused by design: sums know neither groups nor pairs of items.

    Layers that measures of pairs of items compare need only fit, whatever the budget.
    """
    for function, measure in itertools.product(FUNCTIONS, every_measure()):
        if measure.streams:
            yield Case(function, measure, summed=True, grouped=True)
        elif function == "compare":
            yield Case(function, measure, summed=True)


def draw_models(case: Case, seed: int, *, related: bool) -> dict[str, dict[str, Matrix]]:
    """Layers of three models, unrelated or all of the same few things."""
    rng = np.random.default_rng([seed, 17])
    n_units = N_SUMMED if case.summed else N_GROUPS if case.grouped else N_ITEMS
    unit_of = np.repeat(np.arange(n_units), 4) if case.grouped else np.arange(n_units)
    shared = rng.normal(size=(n_units, 4))
    if related and case.measure.name in _OF_CLUSTERS:
        shared += 8 * np.eye(4)[np.arange(n_units) % 4]
    models: dict[str, dict[str, Matrix]] = {}
    for name, widths in WIDTHS.items():
        seen = shared if related else rng.normal(size=(n_units, 4))
        models[name] = {}
        for number, width in enumerate(widths):
            signal = np.tanh(seen @ rng.normal(size=(4, width)))[unit_of]
            noise = rng.standard_t(4, size=signal.shape)
            size = 0.2 if related or case.grouped else 0.5
            if case.measure.name in _OF_CLUSTERS:
                # Far items, which merge last, are most of what such a measure sees.
                size /= 20
            features = signal + size * noise
            models[name][f"layer_{number}"] = _tied(features, case.data)
    return models


def _tied(features: Matrix, data: str) -> Matrix:
    """The same items with few different values; none of them all zeros or all the same."""
    if data == "classes":
        one_hot: Matrix = np.eye(features.shape[1])[features.argmax(axis=1)]
        return one_hot
    if data == "binary":
        return np.concatenate([features > 0, features[:, :1] <= 0], axis=1).astype(float)
    if data == "integers":
        steps = np.clip(np.round(2 * features) + 2, 0, 3)
        return np.concatenate([steps, 3 - steps[:, :1]], axis=1)
    return features


def p_values(case: Case, seed: int, *, related: bool = False) -> list[float]:
    """The p-values of one sample: one, or one for every two of three models."""
    models = draw_models(case, seed, related=related)
    return ask(case, models, seed)


def ask(case: Case, models: dict[str, dict[str, Matrix]], seed: int) -> list[float]:
    """Compare models, or the first layers of two, as the case says."""
    given: dict[str, dict[str, Any]] = dict(models)
    if case.function != "compare_models":
        given = {name: given[name] for name in "ab"}
    if case.function == "compare":
        given = {name: {"layer_0": layers["layer_0"]} for name, layers in given.items()}
    options: dict[str, Any] = {
        "measure": case.measure,
        "n_permutations": N_PERMUTATIONS,
        "random_state": seed,
    }
    sizes = [layer.shape for layers in given.values() for layer in layers.values()]
    if case.grouped:
        options["groups"] = (np.arange(sizes[0][0]) // 4).tolist()
    if case.summed:
        options["memory_budget"] = int(0.85 * sum(8 * n * width for n, width in sizes))
        given = {
            name: {layer: ArrayRows(one) for layer, one in layers.items()}
            for name, layers in given.items()
        }
    if case.function == "compare":
        X, Y = (layers["layer_0"] for layers in given.values())
        p = relspace.compare(X, Y, **options).p_value
        assert p is not None
        return [p]
    if case.function == "compare_layers":
        p = relspace.compare_layers(*given.values(), **options).maximum.p_value
        assert p is not None
        return [p]
    table = relspace.compare_models(given, **options).p_values
    assert table is not None
    return [float(one) for one in table[np.triu_indices(len(table), 1)]]


def shares_of(case: Case, p: Sequence[float]) -> tuple[Share, ...]:
    """How many of the p-values are at most 0.05 and 0.5, beside what exact ones would give."""
    found = []
    for level in (0.05, 0.5):
        low, high = (int(binom.ppf(q, len(p), level)) for q in (0.5 / ONE_IN, 1 - 0.5 / ONE_IN))
        count = int(np.sum(np.array(p) <= level + 1e-9))
        found.append(Share(level, count, len(p), low if case.is_exact else 0, high))
    return tuple(found)


def under_the_null(case: Case, n_samples: int) -> tuple[Share, ...]:
    """The shares of small p-values of unrelated features."""
    p: list[float] = []
    for seed in itertools.count():
        if len(p) >= n_samples:
            return shares_of(case, p[:n_samples])
        p += p_values(case, seed)
    raise AssertionError


def power(case: Case, n_samples: int) -> float:
    """The share of samples of related features that have the smallest p-value there is."""
    p: list[float] = []
    for seed in range(n_samples):
        p += p_values(case, seed, related=True)
    return float(np.mean(np.array(p) <= 1 / (1 + N_PERMUTATIONS) + 1e-9))


def coverage(measure: Measure, n_samples: int, *, summed: bool, grouped: bool) -> Share:
    """How often intervals hold the mean value over samples of as many items."""
    maps = np.random.default_rng(99)
    A, B = maps.normal(size=(4, 5)), maps.normal(size=(4, 7))
    n_units = N_SUMMED if summed else 5 * N_GROUPS if grouped else 2 * N_ITEMS
    values, intervals = [], []
    for seed in range(n_samples):
        rng = np.random.default_rng([seed, 23])
        shared = rng.normal(size=(n_units, 4))
        unit_of = np.repeat(np.arange(n_units), 4) if grouped else np.arange(n_units)
        X = np.tanh(shared @ A)[unit_of] + 0.5 * rng.normal(size=(len(unit_of), 5))
        Y = np.tanh(shared @ B)[unit_of] + 0.5 * rng.normal(size=(len(unit_of), 7))
        options: dict[str, Any] = {"groups": unit_of.tolist()} if grouped else {}
        pair: list[Any] = [X, Y]
        if summed:
            pair = [ArrayRows(X), ArrayRows(Y)]
            options["memory_budget"] = 4 * 8 * len(X) * 12 - 1
        found = relspace.compare(
            *pair, measure=measure, n_bootstraps=N_BOOTSTRAPS, random_state=seed, **options
        )
        assert found.interval is not None
        values.append(found.value)
        intervals.append(found.interval)
    low, high = np.array(intervals).T
    inside = int(np.sum((low <= np.mean(values)) & (np.mean(values) <= high)))
    low_count = int(binom.ppf(0.5 / ONE_IN, n_samples, LEAST_COVERAGE))
    return Share(0.95, inside, n_samples, low_count, n_samples)


def main() -> int:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=400, help="p-values of each case")
    parser.add_argument("--quick", action="store_true", help="only 100 of each")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "calibration.json")
    add_check(parser)
    options = parser.parse_args()
    n_samples = 100 if options.quick else options.samples
    rows: list[Row] = []
    missed: list[str] = []

    def tell(row: Row) -> None:
        rows.append(row)
        cells = [f"{share!s:24s}" for share in row.shares]
        cells += [f"power {row.power:.2f}"] if row.power is not None else []
        cells += [f"covers {row.coverage.found / row.coverage.of:.3f}"] if row.coverage else []
        print(f"{row.name:60s} {' '.join(cells)} {'' if row.fits else 'OUTSIDE'}", flush=True)

    # One-hot classes have too few different items for some measures, which then say so.
    warnings.simplefilter("ignore", RelspaceWarning)
    print("p <= 0.05 and p <= 0.5 of unrelated features, and their bounds; power; coverage")
    for case in cases():
        start = time.perf_counter()
        count = n_samples // 4 if case.takes_long else n_samples
        strength = power(case, count // 4) if case.data == "continuous" else None
        if strength is not None and strength < case.least_power:
            missed.append(case.name)
        shares = under_the_null(case, count)
        tell(Row(case.name, shares, strength, seconds=time.perf_counter() - start))
    for measure, (summed, grouped) in itertools.product(
        every_measure(), ((False, False), (False, True), (True, False), (True, True))
    ):
        if (summed and not measure.streams) or (summed and grouped and measure.folds(N_SUMMED)):
            continue
        start = time.perf_counter()
        how = " ".join(["summed"] * summed + ["groups"] * grouped) or "held"
        count = n_samples // 12 if measure.name in _TIME_TAKING else n_samples // 4
        share = coverage(measure, count, summed=summed, grouped=grouped)
        seconds = time.perf_counter() - start
        tell(Row(f"interval {called(measure)} {how}", coverage=share, seconds=seconds))
    outside = [row.name for row in rows if not row.fits]
    result = {
        "machine": describe_machine(1),
        "items": N_ITEMS,
        "groups": N_GROUPS,
        "items_summed": N_SUMMED,
        "permutations": N_PERMUTATIONS,
        "halves": N_BOOTSTRAPS,
        "p_values_per_case": n_samples,
        "rows": [asdict(row) | {"fits": row.fits} for row in rows],
        "outside": outside,
        "power_missed": missed,
    }
    write_json(options.output, result)
    bars = [
        Bar("cases outside their binomial bounds", float(len(outside)), 0),
        Bar("cases of less power than they must have", float(len(missed)), 0),
    ]
    return conclude(bars, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
