"""Sums over items: the same values as from the items, and the null distribution of permutations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from relspace import measures
from relspace.errors import InvalidInputError
from relspace.measures.sums.item_parts import RandomParts
from relspace.measures.sums.stacked_products import StackedProducts, sum_stacked_products
from relspace.rows.formats.memory import ArrayRows

STREAMS = [one.name for one in map(measures.get, measures.names()) if one.streams]
N_ITEMS = 400


@pytest.fixture(scope="module")
def sets() -> tuple[torch.Tensor, torch.Tensor]:
    """Two sets that share concepts, far from the origin; a feature of the second is a copy."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    concepts = noise(N_ITEMS, 5)
    X = concepts @ noise(5, 9) + 0.3 * noise(N_ITEMS, 9) + 7
    Y = torch.tanh(concepts) @ noise(5, 14) + 0.2 * noise(N_ITEMS, 14)
    Y[:, 13] = Y[:, 12]
    return X, Y


def summed(*sets: torch.Tensor, memory_budget: int = 100_000, folds: int = 5) -> StackedProducts:
    names = ["X", "Y", "Z"][: len(sets)]
    parts = RandomParts(len(sets[0]), folds, 0) if folds else None
    return sum_stacked_products(
        list(map(ArrayRows, sets)), names, folds=parts, memory_budget=memory_budget
    )


@pytest.fixture(scope="module")
def stack(sets: tuple[torch.Tensor, torch.Tensor]) -> StackedProducts:
    return summed(*sets)


@pytest.mark.parametrize("folds", [0, 5])
def test_sums_in_blocks_are_those_of_centred_features(
    folds: int, sets: tuple[torch.Tensor, torch.Tensor]
) -> None:
    products = summed(*sets, folds=folds).pair(0, 1)
    x, y = (Z - Z.mean(dim=0) for Z in sets)
    torch.testing.assert_close(products.x.products, x.T @ x)
    torch.testing.assert_close(products.y.products, y.T @ y)
    torch.testing.assert_close(products.both, x.T @ y)
    of_x, of_y = x.square().sum(dim=1), y.square().sum(dim=1)
    assert products.x.squares == pytest.approx(float(of_x @ of_x))
    assert products.y.squares == pytest.approx(float(of_y @ of_y))
    assert products.squares == pytest.approx(float(of_x @ of_y))


def test_folds_hold_the_products_of_their_items(
    sets: tuple[torch.Tensor, torch.Tensor], stack: StackedProducts
) -> None:
    x, y = (Z - Z.mean(dim=0) for Z in sets)
    products, fold_of = stack.pair(0, 1), RandomParts(N_ITEMS, 5, 0)(0, N_ITEMS)
    for fold in range(5):
        own, other = x[fold_of == fold], y[fold_of == fold]
        assert int(products.x.sizes[fold]) == len(own) == 80
        torch.testing.assert_close(products.x.sums[fold], own.sum(dim=0))
        torch.testing.assert_close(products.y.by_fold[fold], other.T @ other)
        torch.testing.assert_close(products.by_fold[fold], own.T @ other)
        assert float(products.x.traces[fold]) == pytest.approx(float(own.square().sum()))


def test_features_far_from_the_origin_and_in_order_lose_nothing() -> None:
    generator = torch.Generator().manual_seed(3)
    drift = torch.linspace(0, 1e3, 5000, dtype=torch.float64)[:, None]
    X = 1e6 + drift + torch.randn(5000, 4, generator=generator, dtype=torch.float64)
    products = summed(X, X.flip(1), folds=0).pair(0, 1)
    x = X - X.mean(dim=0)
    torch.testing.assert_close(products.x.products, x.T @ x, rtol=1e-12, atol=0.0)
    squares = float(x.square().sum(dim=1).square().sum())
    assert products.squares == pytest.approx(squares, rel=1e-12)


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("turned", [False, True])
def test_values_are_those_of_the_items(
    name: str,
    turned: bool,
    sets: tuple[torch.Tensor, torch.Tensor],
    stack: StackedProducts,
) -> None:
    measure = measures.get(name)
    first, second = reversed(sets) if turned else sets
    expected = measure(first, second)
    found = measure.from_cross_products(stack.pair(1, 0) if turned else stack.pair(0, 1))
    assert found == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("name", STREAMS)
def test_a_set_is_identical_to_itself(name: str, stack: StackedProducts) -> None:
    measure = measures.get(name)
    found = measure.from_cross_products(stack.pair(0, 0))
    assert found == pytest.approx(measure.identical, abs=1e-6)


@pytest.mark.parametrize("predicted", ["both", "first", "second"])
@pytest.mark.parametrize("n_folds", [2, 7])
@pytest.mark.parametrize("seed", [0, 3])
def test_folds_are_those_in_memory(
    predicted: str, n_folds: int, seed: int, sets: tuple[torch.Tensor, torch.Tensor]
) -> None:
    settings = {"predicted": predicted, "n_folds": n_folds, "random_state": seed}
    measure = measures.get("linear_predictivity", **settings)
    X, Y = (Z[:90].float() for Z in sets)
    # Blocks of a few rows; parts of a run of items too.
    sources = [ArrayRows(X), ArrayRows(Y)]
    stack = sum_stacked_products(
        sources, ["X", "Y"], folds=measure.folds(90), memory_budget=140_000
    )
    assert measure.from_cross_products(stack.pair(0, 1)) == pytest.approx(measure(X, Y), abs=1e-6)


@pytest.mark.parametrize("name", STREAMS)
def test_the_limit_is_the_distribution_over_permutations(
    name: str, sets: tuple[torch.Tensor, torch.Tensor], stack: StackedProducts
) -> None:
    measure, n_draws = measures.get(name), 300
    generator = torch.Generator().manual_seed(1)
    draw = stack.permutations(range(1), range(1, 2), generator)
    drawn = np.array([measure.from_cross_products(draw().pair(0, 1)) for _ in range(n_draws)])
    x, y = (measure.prepare(one) for one in sets)
    families = measure.permutations(N_ITEMS, n_draws, random_state=1)
    permuted = np.concatenate([measure.null_table([x], [y], one).flatten() for one in families])
    # Means of 300 draws differ by 0.08 standard deviations as a rule, standard deviations by 6 %.
    assert abs(drawn.mean() - permuted.mean()) < 0.35 * permuted.std()
    assert 0.75 < drawn.std() / permuted.std() < 1.33


def test_draws_of_folds_have_the_covariance_of_permutations(
    sets: tuple[torch.Tensor, torch.Tensor], stack: StackedProducts
) -> None:
    x, y = (Z - Z.mean(dim=0) for Z in sets)
    fold_of = RandomParts(N_ITEMS, 5, 0)(0, N_ITEMS)
    by_fold = torch.nn.functional.one_hot(fold_of, 5).double()
    draw = stack.permutations(range(1), range(1, 2), torch.Generator().manual_seed(4))
    drawn, permuted = [], []
    for _ in range(3000):
        drawn.append(draw().by_fold[:, :2, 0].flatten())
    # Fold by fold: folds of one size among each other are no part of the limit.
    for seed in range(3000):
        noise = torch.rand(N_ITEMS, generator=torch.Generator().manual_seed(seed)).double()
        order = torch.empty(N_ITEMS, dtype=torch.long)
        order[fold_of.argsort(stable=True)] = (fold_of + noise).argsort()
        permuted.append((by_fold.T @ (x[order, :2] * y[:, :1])).flatten())
    one, other = torch.stack(drawn), torch.stack(permuted)
    spread = other.std(dim=0)
    assert float(((one.mean(dim=0) - other.mean(dim=0)) / spread).abs().max()) < 0.12
    apart = (one.T.cov() - other.T.cov()) / spread / spread[:, None]
    assert float(apart.abs().max()) < 0.12


@pytest.mark.parametrize("name", ["affinity", "rsa", "cka_rbf", "mutual_neighbors"])
def test_measures_of_pairs_say_what_to_do(name: str, stack: StackedProducts) -> None:
    measure = measures.get(name)
    assert not measure.streams
    with pytest.raises(InvalidInputError, match="max_items"):
        measure.from_cross_products(stack.pair(0, 1))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_bad_row_is_named(bad: float, sets: tuple[torch.Tensor, torch.Tensor]) -> None:
    X, Y = sets[0].clone(), sets[1]
    X[317, 2] = bad
    with pytest.raises(InvalidInputError, match=r"\(317, 2\)"):
        summed(X, Y)


def test_constant_features_are_named(sets: tuple[torch.Tensor, torch.Tensor]) -> None:
    constant = summed(sets[0], torch.full((N_ITEMS, 3), 0.1)).constant
    assert [str(error).split(":")[0] for error in constant.values()] == ["Y is constant"]
    assert list(constant) == [1]


def test_fewer_items_than_dimensions_are_refused() -> None:
    X = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    products = summed(X, X + X.roll(1, 0)).pair(0, 1)
    with pytest.raises(InvalidInputError, match="8 and 8 dimensions and 12 items"):
        measures.get("cca").from_cross_products(products)
