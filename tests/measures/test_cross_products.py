"""Sums over items: the same values as from the items, and the null distribution of permutations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from relspace import measures
from relspace.errors import InvalidInputError
from relspace.measures.cross_products import CrossProducts, sum_cross_products
from relspace.row_sources import ArrayRows

STREAMS = [one.name for one in measures.list() if one.streams]
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


@pytest.fixture(scope="module")
def products(sets: tuple[torch.Tensor, torch.Tensor]) -> CrossProducts:
    X, Y = sets
    return sum_cross_products(ArrayRows(X), ArrayRows(Y), memory_budget=20_000)


def test_sums_in_blocks_are_those_of_centred_features(
    sets: tuple[torch.Tensor, torch.Tensor], products: CrossProducts
) -> None:
    x, y = (Z - Z.mean(dim=0) for Z in sets)
    torch.testing.assert_close(products.of_x, x.T @ x)
    torch.testing.assert_close(products.of_y, y.T @ y)
    torch.testing.assert_close(products.of_both, x.T @ y)
    of_x, of_y = x.square().sum(dim=1), y.square().sum(dim=1)
    assert products.squares_x == pytest.approx(float(of_x @ of_x))
    assert products.squares_y == pytest.approx(float(of_y @ of_y))
    assert products.squares_both == pytest.approx(float(of_x @ of_y))


def test_equivalent_items_have_the_same_products_and_no_mean(products: CrossProducts) -> None:
    x, y = products.equivalent_items()
    # 9 and 13 dimensions, and one more item than these.
    assert (len(x), len(y)) == (23, 23)
    torch.testing.assert_close(x.mean(dim=0), torch.zeros(9, dtype=torch.float64))
    torch.testing.assert_close(y.mean(dim=0), torch.zeros(14, dtype=torch.float64))
    torch.testing.assert_close(x.T @ x, products.of_x)
    torch.testing.assert_close(y.T @ y, products.of_y)
    torch.testing.assert_close(x.T @ y, products.of_both)


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("turned", [False, True])
def test_values_are_those_of_the_items(
    name: str,
    turned: bool,
    sets: tuple[torch.Tensor, torch.Tensor],
    products: CrossProducts,
) -> None:
    measure = measures.get(name)
    first, second = reversed(sets) if turned else sets
    expected = measure(first, second)
    found = measure.from_cross_products(products.swapped() if turned else products)
    assert found == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("name", STREAMS)
def test_a_set_is_identical_to_itself(name: str, products: CrossProducts) -> None:
    same = CrossProducts(
        products.n_items,
        *[products.of_x] * 3,
        *[products.squares_x] * 3,
    )
    measure = measures.get(name)
    assert measure.from_cross_products(same) == pytest.approx(measure.identical, abs=1e-6)


@pytest.mark.parametrize("name", STREAMS)
def test_the_limit_is_the_distribution_over_permutations(
    name: str, sets: tuple[torch.Tensor, torch.Tensor], products: CrossProducts
) -> None:
    measure, n_draws = measures.get(name), 300
    generator = torch.Generator().manual_seed(1)
    drawn = np.array(
        [measure.from_cross_products(one) for one in products.permutations(n_draws, generator)]
    )
    x, y = (measure.prepare(one) for one in sets)
    permuted = np.array(
        [
            measure.from_factors(x, y, torch.randperm(N_ITEMS, generator=generator))
            for _ in range(n_draws)
        ]
    )
    # Means of 300 draws differ by 0.08 standard deviations as a rule, standard deviations by 6 %.
    assert abs(drawn.mean() - permuted.mean()) < 0.35 * permuted.std()
    assert 0.75 < drawn.std() / permuted.std() < 1.33


@pytest.mark.parametrize("name", ["affinity", "rsa", "cka_rbf", "mutual_neighbors"])
def test_measures_of_pairs_say_what_to_do(name: str, products: CrossProducts) -> None:
    measure = measures.get(name)
    assert not measure.streams
    with pytest.raises(InvalidInputError, match="max_items"):
        measure.from_cross_products(products)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_bad_row_is_named(bad: float, sets: tuple[torch.Tensor, torch.Tensor]) -> None:
    X, Y = sets[0].clone(), sets[1]
    X[317, 2] = bad
    with pytest.raises(InvalidInputError, match="row 317"):
        sum_cross_products(ArrayRows(X), ArrayRows(Y), memory_budget=20_000)


def test_constant_features_are_refused(sets: tuple[torch.Tensor, torch.Tensor]) -> None:
    X = torch.full((N_ITEMS, 3), 0.1)
    with pytest.raises(InvalidInputError, match="Y is constant"):
        sum_cross_products(ArrayRows(sets[0]), ArrayRows(X))


def test_fewer_items_than_dimensions_are_refused() -> None:
    X = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    products = sum_cross_products(ArrayRows(X), ArrayRows(X + X.roll(1, 0)))
    with pytest.raises(InvalidInputError, match="too few"):
        products.equivalent_items()
