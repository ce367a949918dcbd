"""A function of the user's own is compared by, with chance, p-value and interval."""

from __future__ import annotations

import json
import warnings
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import relspace as rs
from relspace import measures
from relspace.errors import (
    InvalidInputError,
    InvalidTypeError,
    RelspaceWarning,
    UndefinedValueError,
)


def related(n: int = 60) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 5))
    return X, X @ rng.normal(size=(5, 7)) + 0.3 * rng.normal(size=(n, 7))


def alignment(X: Any, Y: Any) -> Any:
    """Biased linear CKA."""
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    size = np.linalg.norm(X.T @ X) * np.linalg.norm(Y.T @ Y)
    return np.linalg.norm(X.T @ Y) ** 2 / size


def gap(X: Any, Y: Any) -> float:
    return float(np.abs(np.linalg.norm(X, axis=1) - np.linalg.norm(Y, axis=1)).sum())


def test_a_function_gives_what_the_measure_of_the_same_formula_does() -> None:
    X, Y = related()
    own, known = (
        rs.compare(X, Y, measure=measure, n_bootstraps=20) for measure in (alignment, "cka_biased")
    )
    assert own.value == pytest.approx(known.value)
    assert own.measure.name == "alignment"
    np.testing.assert_allclose(own.null, known.null, atol=1e-9)
    assert own.p_value == known.p_value == 0.01
    assert own.interval == pytest.approx(known.interval)
    assert own.threshold == pytest.approx(known.threshold)


def test_groups_are_permuted_as_a_whole() -> None:
    X, Y = related()
    groups = [i // 3 for i in range(60)]
    own, known = (
        rs.compare(X, Y, measure=measure, groups=groups) for measure in (alignment, "cka_biased")
    )
    np.testing.assert_allclose(own.null, known.null, atol=1e-9)


def test_layers_models_and_curves_take_functions() -> None:
    X, Y = related(120)
    layers = rs.compare_layers({"a": X, "b": X**2}, {"c": Y}, measure=alignment)
    known = rs.compare_layers({"a": X, "b": X**2}, {"c": Y}, measure="cka_biased")
    np.testing.assert_allclose(layers.values, known.values)
    assert layers.maximum.p_value == known.maximum.p_value
    sets = {"p": {"a": X}, "q": {"c": Y, "d": Y**2}, "r": {"e": np.tanh(Y)}}
    models = rs.compare_models(sets, measure=alignment)
    known_models = rs.compare_models(sets, measure="cka_biased")
    np.testing.assert_allclose(models.values, known_models.values)
    np.testing.assert_array_equal(models.p_values, known_models.p_values)
    plain = json.dumps(models.to_dict(), allow_nan=False)
    assert json.loads(plain)["measure"] == "alignment"
    # Without a value of identical sets, models are arranged below the largest value there is.
    np.testing.assert_allclose(models.layer_distances, known_models.layer_distances, atol=1e-7)
    curve = rs.similarity_curve(X, Y, measure=alignment, sizes=[20, 40], n_draws=2)
    known_curve = rs.similarity_curve(X, Y, measure="cka_biased", sizes=[20, 40], n_draws=2)
    np.testing.assert_allclose(curve.values, known_curve.values)
    np.testing.assert_allclose(curve.thresholds, known_curve.thresholds)


def test_calibrated_scores_need_the_value_of_identical_sets() -> None:
    X, Y = related()
    unknown = rs.compare(X, Y, measure=alignment)
    with pytest.raises(InvalidInputError, match="alignment has no value for identical sets"):
        unknown.calibrated  # noqa: B018
    assert unknown.to_dict()["calibrated"] is None
    assert "calibrated" not in repr(unknown)
    with pytest.raises(InvalidInputError, match=r"alignment has no value .* leave out ceiling"):
        rs.compare(X, Y, measure=alignment, ceiling=True)
    told = measures.from_function(alignment, identical=1.0)
    found = rs.compare(X, Y, measure=told, ceiling=True)
    assert found.calibrated == pytest.approx(rs.compare(X, Y, measure="cka_biased").calibrated)
    assert found.ceiling is not None
    curve = rs.similarity_curve(X, Y, measure=alignment, sizes=[20, 40], n_draws=2)
    with pytest.raises(InvalidInputError, match="alignment has no value for identical sets"):
        curve.calibrated  # noqa: B018
    assert "calibrated" not in repr(curve)
    assert "calibrated" not in curve.to_dict()["curve"]
    assert "calibrated" not in [line.get_label() for line in curve.plot().lines]


def test_distances_are_said_to_be() -> None:
    X, _ = related()
    measure = measures.from_function(gap, higher_is_better=False, identical=0.0, name="gaps")
    found = rs.compare(X, X + 0.01, measure=measure)
    assert found.p_value == 0.01
    assert found.measure.direction == "distance"
    assert found.measure.name == "gaps"


@pytest.mark.parametrize("function", ["compare", "compare_models", "similarity_curve"])
def test_a_function_that_contradicts_its_direction_is_warned_of(function: str) -> None:
    X, Y = related()

    def ask(measure: Any) -> None:
        if function == "compare":
            rs.compare(X, Y, measure=measure)
        elif function == "similarity_curve":
            rs.similarity_curve(X, Y, measure=measure, sizes=[20, 40], n_draws=2)
        else:
            rs.compare_models({"a": {"x": X}, "b": {"y": Y}}, measure=measure)

    with pytest.warns(RelspaceWarning, match=r"gap .*higher_is_better=False") as told:
        ask(gap)
    assert len(told) == 1
    with pytest.warns(RelspaceWarning, match=r"alignment .*higher_is_better=True"):
        ask(measures.from_function(alignment, higher_is_better=False))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(alignment)
        ask(measures.from_function(gap, higher_is_better=False))


def test_a_function_of_two_widths_is_not_compared_with_itself() -> None:
    X, Y = related()
    weights = np.linalg.lstsq(X, Y, rcond=None)[0]
    found = rs.compare(X, Y, measure=lambda X, Y: -np.linalg.norm(X @ weights - Y))
    assert found.p_value == 0.01


def test_names_come_from_the_function() -> None:
    class Scorer:
        def __call__(self, X: Any, Y: Any) -> float:
            return float(alignment(X, Y))

    functions = [alignment, lambda X, Y: 0.0, partial(gap), Scorer()]
    assert [measures.from_function(one).name for one in functions] == [
        *("alignment", "lambda", "gap", "Scorer"),
    ]
    assert measures.from_function(gap).parameters == {
        "function": f"{__name__}.gap",
        "arrays": "numpy",
    }


def test_the_scale_and_dtype_of_features_are_left_as_they_are() -> None:
    seen: list[tuple[np.dtype[Any], float]] = []

    def look(X: Any, Y: Any) -> float:
        seen.append((X.dtype, float(np.abs(X).max())))
        return float(alignment(X, Y))

    X, Y = related()
    small = (1e-3 * X).astype(np.float32)
    rs.compare(small, Y, measure=look, n_permutations=0)
    rs.compare_models({"a": {"x": small}, "b": {"y": small}}, measure=look, n_permutations=0)
    assert set(seen) == {(np.dtype(np.float32), float(np.abs(small).max()))}


def spread(X: Any, Y: Any) -> float:
    """The variance of the first feature, whose squares need many digits."""
    return float((X[:, 0] * X[:, 0]).mean() - X[:, 0].mean() ** 2)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "float16"])
@pytest.mark.parametrize("arrays", ["numpy", "torch"])
def test_other_types_than_float32_and_float64_come_in_float64(
    dtype: str, arrays: Any, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    low = {"int32": 2_000_000, "int64": 9_000_000}.get(dtype, 0)
    X = rng.integers(low, low + 100, size=(40, 3)).astype(dtype)
    _, Y = related(40)
    seen = set()

    def look(X: Any, Y: Any) -> float:
        seen.add(str(X.dtype).removeprefix("torch."))
        return spread(X, Y)

    measure = measures.from_function(look, arrays=arrays)
    right = pytest.approx(np.var(X[:, 0].astype(np.float64)), rel=1e-4)
    given = torch.from_numpy(X) if arrays == "torch" else X
    assert measure(given, Y) == right
    assert rs.compare(given, Y, measure=measure).value == right
    np.save(tmp_path / "X.npy", X)
    assert rs.compare(tmp_path / "X.npy", Y, measure=measure).value == right
    layers = rs.compare_layers({"a": given}, {"b": Y}, measure=measure, n_permutations=0)
    assert layers.values[0, 0] == right
    there, back = right.expected, np.var(Y[:, 0])
    models = rs.compare_models({"p": {"a": given}, "q": {"b": Y}}, measure=measure)
    assert models.values[0, 1] == pytest.approx((there + back) / 2, rel=1e-4)
    curve = rs.similarity_curve(given, Y, measure=measure, sizes=[20, 40], n_draws=2)
    assert curve.value[-1] == right
    assert seen == {"float64"}


def write_by_torch(X: Any, Y: Any) -> float:
    left, right = torch.from_numpy(X), torch.from_numpy(Y)
    left -= left.mean(dim=0)
    right -= right.mean(dim=0)
    size = torch.linalg.norm(left.T @ left) * torch.linalg.norm(right.T @ right)
    value = float(torch.linalg.norm(left.T @ right) ** 2 / size)
    left.zero_()
    right.zero_()
    return value


def write_by_flag(X: Any, Y: Any) -> float:
    value = float(alignment(X, Y))
    for Z in (X, Y):
        Z.flags.writeable = True
        Z[:] = 7
    return value


@pytest.mark.parametrize("function", [write_by_torch, write_by_flag])
def test_what_a_function_writes_changes_neither_features_nor_later_calls(function: Any) -> None:
    X, Y = related()
    before = X.copy(), Y.copy()
    known = rs.compare(X, Y, measure="cka_biased")
    for _ in range(2):
        found = rs.compare(X, Y, measure=function, n_bootstraps=5)
        assert found.value == pytest.approx(known.value)
        np.testing.assert_allclose(found.null, known.null, atol=1e-9)
    assert measures.from_function(function)(X, X) == pytest.approx(1)
    rs.compare_models({"p": {"a": X}, "q": {"b": Y}}, measure=function)
    rs.similarity_curve(X, Y, measure=function, sizes=[20, 60], n_draws=2)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(Y, before[1])


def test_a_constant_layer_is_left_out_and_a_constant_model_refused() -> None:
    X, Y = related()
    flat = np.ones((60, 3))
    with pytest.warns(RelspaceWarning, match="first, flat") as told:
        layers = rs.compare_layers({"flat": flat, "x": X}, {"y": Y}, measure=alignment)
    assert len(told) == 1
    assert np.isnan(layers.values[0, 0])
    assert layers.values[1, 0] == pytest.approx(alignment(X, Y))
    sets = {"p": {"flat": flat, "x": X}, "q": {"y": Y}}
    with pytest.warns(RelspaceWarning, match="p, flat"):
        models = rs.compare_models(sets, measure=alignment)
    assert models.left_out.keys() == {"p, flat"}
    constant = {"flat": flat}
    for ask in (
        lambda: rs.compare(flat, Y, measure=alignment),
        lambda: rs.compare_layers(constant, {"y": Y}, measure=alignment),
        lambda: rs.compare_to(flat, {"p": X, "q": X**2}, measure=alignment),
        lambda: rs.compare_to(Y, {"p": flat, "q": X}, measure=alignment),
        lambda: rs.compare_models({"p": constant, "q": {"y": Y}}, measure=alignment),
        lambda: rs.similarity_curve(flat, Y, measure=alignment, sizes=[20, 40]),
    ):
        with pytest.raises(UndefinedValueError, match="constant"):
            ask()


def test_torch_tensors_where_they_are_asked_for() -> None:
    def of_tensors(X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        # Writing to them changes no other call.
        X.sub_(X.mean(dim=0))
        return torch.linalg.norm(X.T @ (Y - Y.mean(dim=0)))

    X, Y = related()
    measure = measures.from_function(of_tensors, arrays="torch")
    first, second = (rs.compare(X, Y, measure=measure) for _ in range(2))
    centered = X - X.mean(axis=0)
    assert first.value == pytest.approx(np.linalg.norm(centered.T @ (Y - Y.mean(axis=0))))
    np.testing.assert_array_equal(first.null, second.null)


class TestErrors:
    def test_the_function_fails(self) -> None:
        X, Y = related()

        def divide(X: Any, Y: Any) -> float:
            return float(X[0, 0] / 0)

        def other(X: Any, Y: Any) -> float:
            return float(X @ Y)

        for function, said in [
            (other, r"other failed on NumPy arrays of shape \(60, 5\) and \(60, 7\): ValueError"),
            (torch.cdist, r"failed on NumPy arrays .*arrays=\"torch\""),
            (lambda X: 0.0, "lambda failed .*TypeError"),
        ]:
            with pytest.raises(InvalidInputError, match=said):
                rs.compare(X, Y, measure=function)
        with (
            np.errstate(divide="raise"),
            pytest.raises(InvalidInputError, match=r"divide failed .*FloatingPointError"),
        ):
            rs.compare(X, Y, measure=divide)

    @pytest.mark.parametrize("value", [np.nan, np.inf, torch.tensor(np.nan)])
    def test_what_is_not_finite(self, value: Any) -> None:
        X, Y = related()
        with pytest.raises(UndefinedValueError, match=r"lambda returned (nan|inf) of sets"):
            rs.compare(X, Y, measure=lambda X, Y: value)

    @pytest.mark.parametrize("said", ["inf", "-inf"])
    def test_what_float64_does_not_hold(self, said: str) -> None:
        X, Y = related()
        value = 10**400 if said == "inf" else -Fraction(10**400, 3)
        with pytest.raises(UndefinedValueError, match=f"huge returned {said} of sets"):
            rs.compare(X, Y, measure=measures.from_function(lambda X, Y: value, name="huge"))
        with pytest.raises(InvalidInputError, match=f"identical is {said}; it must be finite"):
            measures.from_function(alignment, identical=value)

    def test_not_finite_under_a_permutation(self) -> None:
        X, Y = related()
        calls = iter(range(1000))

        def later(X: Any, Y: Any) -> float:
            return np.nan if next(calls) > 20 else float(alignment(X, Y))

        with pytest.raises(UndefinedValueError, match="later returned nan"):
            rs.compare(X, Y, measure=later)

    @pytest.mark.parametrize("value", [None, "0.3", True, 1j, [0.3], np.ones(3), torch.ones(1, 1)])
    def test_what_is_no_number(self, value: Any) -> None:
        X, Y = related()
        with pytest.raises(InvalidTypeError, match=r"lambda returned is of type .*one number"):
            rs.compare(X, Y, measure=lambda X, Y: value)

    def test_arguments(self) -> None:
        with pytest.raises(InvalidTypeError, match="it must be a function"):
            measures.from_function("cka")  # type: ignore[arg-type]
        with pytest.raises(InvalidTypeError, match="it must be a function"):
            measures.from_function(dict)
        with pytest.raises(InvalidTypeError, match="higher_is_better is 1"):
            measures.from_function(gap, higher_is_better=1)  # type: ignore[arg-type]
        with pytest.raises(InvalidTypeError, match="name is ''"):
            measures.from_function(gap, name="")
        with pytest.raises(InvalidInputError, match="identical is inf"):
            measures.from_function(gap, identical=np.inf)
        with pytest.raises(InvalidInputError, match="arrays is 'jax'"):
            measures.from_function(gap, arrays="jax")  # type: ignore[arg-type]

    def test_what_is_neither_name_nor_function(self) -> None:
        X, Y = related()
        for wrong in (3, None, dict):
            with pytest.raises(InvalidTypeError, match="measure is of type"):
                rs.compare(X, Y, measure=wrong)  # type: ignore[arg-type]

    def test_features(self) -> None:
        X, Y = related()
        with pytest.raises(InvalidInputError, match="X has 3 items"):
            rs.compare(X[:3], Y[:3], measure=alignment)
        square = rs.Dissimilarities(np.ones((60, 60)) - np.eye(60))
        with pytest.raises(InvalidInputError, match="Y holds dissimilarities"):
            rs.compare(X, square, measure=alignment)
