"""Given dissimilarities: checked, read, compared as features' own are, with pairs left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.io import savemat
from scipy.spatial.distance import pdist, squareform
from scipy.stats import kendalltau, pearsonr, spearmanr

import relspace as rs
from relspace.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    ItemMismatchError,
    RelspaceWarning,
    UndefinedValueError,
)
from relspace.measures.common_pairs import on_common_pairs

Matrix = NDArray[np.float64]


def sets(n: int = 30, seed: int = 0) -> tuple[Matrix, Matrix]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6))
    return X, X @ rng.normal(size=(6, 8)) + rng.normal(size=(n, 8))


def with_gaps(X: Matrix, share: float, seed: int) -> Matrix:
    vector = pdist(X)
    vector[np.random.default_rng(seed).random(len(vector)) < share] = np.nan
    return vector


class TestChecks:
    def test_condensed_is_square(self) -> None:
        vector = pdist(sets()[0])
        given = rs.Dissimilarities(vector)
        np.testing.assert_array_equal(given.values.numpy(), squareform(vector))
        np.testing.assert_array_equal(rs.Dissimilarities(squareform(vector)).values, given.values)
        assert repr(given) == "Dissimilarities(30 items)"

    def test_missing_pairs_are_counted(self) -> None:
        vector = pdist(sets()[0])
        vector[[3, 7]] = np.nan
        given = rs.Dissimilarities(vector)
        assert given.n_missing == 2
        assert repr(given) == "Dissimilarities(30 items, 2 pairs missing)"

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda D: D[:, :-1], r"D has shape \(30, 29\)"),
            (lambda D: D[:3, :3], "D is of 3 items"),
            (lambda D: D[0, :5], "D has 5 entries"),
            (lambda D: np.triu(D), "D isn't symmetric: entry"),
            (lambda D: 1 - D, "on its diagonal, where dissimilarities are 0: give 1 - D"),
            (lambda D: np.where(D > 0, np.inf, 0), "infinite"),
        ],
    )
    def test_what_is_no_matrix_of_dissimilarities_is_refused(self, change: Any, said: str) -> None:
        with pytest.raises(InvalidInputError, match=said):
            rs.Dissimilarities(change(squareform(pdist(sets()[0]))))

    def test_a_gap_on_one_side_only_is_refused(self) -> None:
        D = squareform(pdist(sets()[0]))
        D[1, 2] = np.nan
        with pytest.raises(InvalidInputError, match=r"isn't symmetric: entry \(1, 2\) is nan"):
            rs.Dissimilarities(D)

    def test_text_is_refused(self) -> None:
        with pytest.raises(InvalidTypeError, match="matrix of real numbers"):
            rs.Dissimilarities([["a", "b"], ["c", "d"]])

    def test_a_matrix_given_as_features_points_here(self) -> None:
        X, Y = sets()
        with pytest.warns(RelspaceWarning, match=r"relspace\.Dissimilarities\(D\)"):
            rs.measures.get("rsa")(squareform(pdist(X)), Y)


MEASURES = {
    "rsa": lambda a, b: pearsonr(a, b)[0],
    "rsa_spearman": lambda a, b: spearmanr(a, b)[0],
    "rsa_kendall": lambda a, b: kendalltau(a, b, variant="b")[0],
    "rsa_cosine": lambda a, b: a @ b / np.sqrt((a @ a) * (b @ b)),
}


@pytest.mark.parametrize("name", MEASURES)
class TestComparison:
    def test_equals_scipy_and_features(self, name: str) -> None:
        X, Y = sets()
        a, b = pdist(X), pdist(Y)
        measure = rs.measures.get(name, distance="euclidean")
        expected = MEASURES[name](a, b)
        A, B = rs.Dissimilarities(a), rs.Dissimilarities(b)
        for left, right in ((A, B), (A, Y), (X, B), (X, Y)):
            assert measure(left, right) == pytest.approx(expected, abs=1e-6)
            found = rs.compare(left, right, measure=measure, n_permutations=19)
            assert found.value == pytest.approx(expected, abs=1e-6)
            assert found.p_value == 0.05

    def test_permutations_are_those_of_rows_and_columns_together(self, name: str) -> None:
        X, Y = sets(n=12)
        measure = rs.measures.get(name, distance="euclidean")
        given = rs.Dissimilarities(pdist(X)), rs.Dissimilarities(pdist(Y))
        of_matrices = rs.compare(*given, measure=measure, n_permutations=25)
        of_features = rs.compare(X, Y, measure=measure, n_permutations=25)
        np.testing.assert_allclose(of_matrices.null, of_features.null, atol=1e-6)

    def test_missing_pairs_are_left_out(self, name: str) -> None:
        X, Y = sets()
        a, b = with_gaps(X, 0.1, 1), with_gaps(Y, 0.2, 2)
        present = ~(np.isnan(a) | np.isnan(b))
        expected = MEASURES[name](a[present], b[present])
        measure = rs.measures.get(name, distance="euclidean")
        A, B = rs.Dissimilarities(a), rs.Dissimilarities(b)
        assert measure(A, B) == pytest.approx(expected)
        found = rs.compare(A, B, measure=measure, n_permutations=19, n_bootstraps=9)
        assert found.value == pytest.approx(expected)
        assert found.p_value == 0.05
        assert found.interval is not None
        assert found.interval[0] < expected < found.interval[1]
        missing = {"X": int(np.isnan(a).sum()), "Y": int(np.isnan(b).sum())}
        assert found.to_dict()["missing_pairs"] == missing
        assert f"{missing['X']} of X, {missing['Y']} of Y" in repr(found)
        with_features = MEASURES[name](a[~np.isnan(a)], pdist(Y)[~np.isnan(a)])
        assert measure(A, Y) == pytest.approx(with_features)

    def test_null_of_few_gaps_is_that_of_none(self, name: str) -> None:
        X, Y = sets(n=14)
        measure = rs.measures.get(name, distance="euclidean")
        gap = pdist(X)
        gap[5] = np.nan
        whole = rs.compare(rs.Dissimilarities(pdist(X)), Y, measure=measure, n_permutations=39)
        one_gap = rs.compare(rs.Dissimilarities(gap), Y, measure=measure, n_permutations=39)
        np.testing.assert_allclose(one_gap.null, whole.null, atol=0.15)
        assert np.corrcoef(one_gap.null, whole.null)[0, 1] > 0.95


def test_masked_pairs_are_missing() -> None:
    D = squareform(pdist(sets()[0]))
    mask = np.zeros(D.shape, dtype=bool)
    mask[[1, 2], [2, 1]] = True
    gaps = rs.Dissimilarities(np.where(mask, np.nan, D))
    spoilt = np.where(mask, 999.0, D)
    rows = [np.ma.array(row, mask=m) for row, m in zip(spoilt, mask, strict=True)]
    above = np.triu_indices(30, 1)
    for given in (
        np.ma.array(spoilt, mask=mask),
        np.ma.array(spoilt[above], mask=mask[above]),
        rows,
    ):
        found = rs.Dissimilarities(given)
        assert found.n_missing == 1
        np.testing.assert_array_equal(found.values, gaps.values)
    whole = np.ma.array(np.round(D * 10).astype(int), mask=mask)
    assert rs.Dissimilarities(whole).n_missing == 1


def test_labels_of_tables_are_ids() -> None:
    pd = pytest.importorskip("pandas")
    D = squareform(pdist(sets()[0]))
    names = [f"image {k}" for k in range(30)]
    frame = pd.DataFrame(D, index=names, columns=names)
    for one in (
        frame,
        pd.DataFrame(D, index=names),
        pd.DataFrame(D, columns=names),
        pd.DataFrame(D, columns=names).assign(id=names),
    ):
        given = rs.Dissimilarities(one)
        assert given.ids == tuple(names)
        np.testing.assert_array_equal(given.values, D)
    assert rs.Dissimilarities(pd.DataFrame(D)).ids is None
    order = np.random.default_rng(0).permutation(30)
    shuffled = rs.Dissimilarities(frame.iloc[order, order])
    assert shuffled.ids == tuple(names[k] for k in order)
    with pytest.raises(ItemMismatchError, match="rows and columns of D have different labels"):
        rs.Dissimilarities(pd.DataFrame(D, index=names, columns=names[::-1]))
    assert rs.Dissimilarities(frame, ids=range(30)).ids == tuple(range(30))


@pytest.mark.parametrize("name", ["rsa", "rsa_cosine", "rsa_spearman", "rsa_kendall"])
@pytest.mark.parametrize("scale", [2.0**-1000, 2.0**-530, 2.0**530, 2.0**1000])
def test_the_scale_of_dissimilarities_with_gaps_changes_nothing(name: str, scale: float) -> None:
    X, Y = sets()
    measure = rs.measures.get(name, distance="euclidean")
    gaps = with_gaps(X, 0.1, 0)
    common = on_common_pairs(measure)
    permutation = torch.arange(30).roll(7)
    values = []
    for one in (gaps, gaps * scale):
        x, y = common.prepare(rs.Dissimilarities(one)), common.prepare(Y)
        values.append((common.from_factors(x, y), common._tables([x], [y], permutation[None])))
    assert values[0][0] == values[1][0] == measure(rs.Dissimilarities(gaps * scale), Y)
    assert torch.equal(values[0][1], values[1][1])


def test_the_largest_numbers_are_dissimilarities() -> None:
    vector = pdist(sets()[0])
    found = rs.Dissimilarities(vector * (1.7e308 / vector.max()))
    assert bool(found.values.isfinite().all())


def test_ids_bring_items_together() -> None:
    X, Y = sets()
    ids = [f"image {k}" for k in range(30)]
    order = np.random.default_rng(3).permutation(30)
    A = rs.Dissimilarities(pdist(X), ids=ids)
    B = rs.Dissimilarities(pdist(Y[order]), ids=[ids[k] for k in order])
    expected = rs.compare(rs.Dissimilarities(pdist(X)), rs.Dissimilarities(pdist(Y)), measure="rsa")
    found = rs.compare(A, B, measure="rsa")
    assert found.matched_by == "ids"
    assert found.value == pytest.approx(expected.value)
    layers = rs.compare_layers({"in": A, "out": A}, {"in": B}, measure="rsa")
    np.testing.assert_allclose(layers.values, np.full((2, 1), expected.value))


def test_matrices_are_models_and_have_curves() -> None:
    X, Y = sets(60)
    euclidean = rs.measures.get("rsa", distance="euclidean")
    whole = {"x": X, "y": Y, "z": Y**2}
    given = {k: {"l": rs.Dissimilarities(squareform(pdist(Z)))} for k, Z in whole.items()}
    of_features = {k: {"l": Z} for k, Z in whole.items()}
    found, known = (rs.compare_models(it, measure=euclidean) for it in (given, of_features))
    np.testing.assert_allclose(found.values, known.values, atol=1e-9)
    np.testing.assert_array_equal(found.p_values, known.p_values)
    curves = [
        rs.similarity_curve(one, Y, measure=euclidean, sizes=[20, 40, 60], n_draws=2)
        for one in (given["x"]["l"], X)
    ]
    np.testing.assert_allclose(curves[0].values, curves[1].values, atol=1e-9)
    np.testing.assert_allclose(curves[0].thresholds, curves[1].thresholds, atol=1e-9)


@pytest.mark.parametrize("comparison", ["whitened_cosine", "whitened_correlation"])
def test_whitened_comparison_of_missing_pairs_is_refused(comparison: str) -> None:
    X, Y = sets()
    measure = rs.measures.get("rsa", comparison=comparison)
    with pytest.raises(InvalidInputError, match="rsa can't leave out pairs of items"):
        rs.compare(rs.Dissimilarities(with_gaps(X, 0.1, 0)), Y, measure=measure)


@pytest.mark.parametrize("name", ["rsa", "rsa_cosine", "rsa_spearman"])
def test_permutations_of_missing_pairs_are_compared_in_batches(name: str) -> None:
    measure = on_common_pairs(rs.measures.get(name, distance="euclidean"))
    X, Y = (rs.Dissimilarities(with_gaps(Z, 0.2, seed)) for seed, Z in enumerate(sets()))
    factors = [measure.prepare(Z) for Z in (X, Y, sets()[0])]
    (family,) = measure.permutations(30, 20)
    expected = torch.stack([measure.table(factors[:2], factors, p) for p in family.permutations()])
    null = measure.null_table(factors[:2], factors, family)
    torch.testing.assert_close(null, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["rsa", "rsa_cosine"])
def test_common_pairs_without_structure_are_undefined_under_permutations_too(name: str) -> None:
    flat = np.full((30, 30), 0.1 if name == "rsa" else 0.0)
    flat[0, 1] = flat[1, 0] = np.nan
    np.fill_diagonal(flat, 0.0)
    measure = on_common_pairs(rs.measures.get(name, distance="euclidean"))
    factors = [measure.prepare(rs.Dissimilarities(Z)) for Z in (flat, with_gaps(sets()[0], 0.1, 0))]
    (family,) = measure.permutations(30, 5)
    with pytest.raises(UndefinedValueError, match="equally alike"):
        measure.null_table(factors[:1], factors[1:], family)


def test_curves_of_missing_pairs_leave_them_out() -> None:
    X, Y = sets(60)
    gaps = rs.Dissimilarities(with_gaps(X, 0.1, 0))
    curve = rs.similarity_curve(gaps, Y, measure="rsa_spearman", sizes=[30, 60], n_draws=1)
    found = rs.compare(gaps, Y, measure="rsa_spearman", n_permutations=0)
    assert curve.values[-1, 0] == pytest.approx(found.value)


def test_measures_of_features_refuse_matrices() -> None:
    X, Y = sets()
    A = rs.Dissimilarities(pdist(X))
    for call in (
        lambda: rs.measures.get("cka")(A, Y),
        lambda: rs.compare(A, Y, measure="cka"),
        lambda: rs.compare(rs.Dissimilarities(with_gaps(X, 0.1, 0)), Y, measure="procrustes"),
    ):
        with pytest.raises(InvalidInputError, match="take rsa, rsa_spearman"):
            call()
    with pytest.raises(InvalidInputError, match="leave out ceiling"):
        rs.compare(A, Y, measure="rsa", ceiling=True)
    with pytest.raises(ItemMismatchError, match="X has 30 items and Y has 29"):
        rs.measures.get("rsa")(A, Y[1:])
    whitened = rs.measures.get("rsa", comparison="whitened_cosine")
    with pytest.raises(InvalidInputError, match="can't leave out pairs"):
        whitened(rs.Dissimilarities(with_gaps(X, 0.1, 0)), Y)


def test_too_little_in_common_is_undefined() -> None:
    a = np.full(15, np.nan)
    a[:2] = 1, 2
    with pytest.raises(UndefinedValueError, match="2 pairs of items in common"):
        rs.measures.get("rsa")(rs.Dissimilarities(a), rs.Dissimilarities(np.arange(1.0, 16)))
    with pytest.raises(UndefinedValueError, match="equally alike"):
        rs.measures.get("rsa")(rs.Dissimilarities(np.ones(15)), rs.Dissimilarities(np.arange(15)))


def test_negative_dissimilarities_can_have_a_negative_cosine() -> None:
    values = np.random.default_rng(0).normal(size=45)
    A, B = rs.Dissimilarities(values), rs.Dissimilarities(-values)
    assert rs.compare(A, B, measure="rsa_cosine").value == pytest.approx(-1.0)


# rsatoolbox 0.3.2, whose compare() and calc_rdm_crossnobis() gave the numbers:
#   rng = np.random.default_rng(7); a, b = rng.random((2, 66)); b = b + a
#   [compare(RDMs(a[None]), RDMs(b[None]), method=m)[0, 0] for m in ("cosine_cov", "corr_cov")]
WHITENED = {"whitened_cosine": 0.8044567273984058, "whitened_correlation": 0.7326852604639098}
#   X = np.random.default_rng(8).normal(size=(3, 5, 4)); P = np.diag([1.0, 2.0, 0.5, 1.5])
#   calc_rdm_crossnobis(Dataset(X.reshape(15, 4), obs_descriptors={"item": [0, 1, 2, 3, 4] * 3,
#       "run": np.repeat([0, 1, 2], 5)}), "item", noise=P, cv_descriptor="run").dissimilarities[0]
CROSSNOBIS = [
    0.6293553353900653,
    0.06247859983075718,
    0.615856778729328,
    0.15165096775029838,
    0.3599734641395346,
    -0.6628165162724834,
    1.3679600138149428,
    0.07706719113128178,
    -1.2501572465317856,
    -0.955341925657789,
]


@pytest.mark.parametrize("comparison", WHITENED)
def test_whitened_comparison_is_that_of_rsatoolbox(comparison: str) -> None:
    rng = np.random.default_rng(7)
    a, b = rng.random((2, 66))
    measure = rs.measures.get("rsa", comparison=comparison)
    A, B = rs.Dissimilarities(a), rs.Dissimilarities(b + a)
    assert measure(A, B) == pytest.approx(WHITENED[comparison], abs=1e-9)
    assert rs.compare(A, B, measure=measure, n_permutations=19).p_value == 0.05


def test_whitened_cosine_of_squared_distances_is_biased_cka() -> None:
    X, Y = sets()
    measure = rs.measures.get("rsa", distance="squared_euclidean", comparison="whitened_cosine")
    assert measure(X, Y) == pytest.approx(rs.measures.get("cka_biased")(X, Y))


def test_crossnobis_is_that_of_rsatoolbox() -> None:
    X = np.random.default_rng(8).normal(size=(3, 5, 4))
    found = rs.crossnobis(X, precision=np.diag([1.0, 2.0, 0.5, 1.5]), ids=list("abcde"))
    np.testing.assert_allclose(found.values.numpy()[np.triu_indices(5, 1)], CROSSNOBIS, atol=1e-9)
    assert found.ids == tuple("abcde")


def test_crossnobis_of_noise_is_0_on_average() -> None:
    found = rs.crossnobis(np.random.default_rng(0).normal(size=(4, 60, 2000)))
    above = found.values.numpy()[np.triu_indices(60, 1)]
    assert abs(above.mean()) < 0.01
    assert above.min() < 0


@pytest.mark.parametrize(
    ("X", "precision", "said"),
    [
        (np.ones((1, 5, 4)), None, "at least 2 repeats"),
        (np.full((2, 5, 4), np.nan), None, r"X\[0\] holds 20 NaN or infinite values"),
        ([[[1, 2], [3]], [[1, 2], [3, 4]]], None, r"X\[0\] can't be made an array"),
        ([np.ones((5, 4)), np.ones((4, 5))], None, r"2 repeats, of shape \(4, 5\), \(5, 4\)"),
        (np.ma.masked_greater(np.arange(40.0).reshape(2, 5, 4), 38), None, "1 masked values"),
        (np.ones((2, 5, 4)), np.full((4, 4), np.nan), "precision holds 16 NaN"),
        (np.ones((2, 5, 4)), np.triu(np.ones((4, 4))), "precision isn't symmetric"),
        (1e200 * np.random.default_rng(0).normal(size=(2, 5, 4)), None, "beyond the range"),
        (1e-200 * np.random.default_rng(0).normal(size=(2, 5, 4)), None, "beyond the range"),
        (np.ones((2, 5, 4)), np.eye(3), r"precision has shape \(3, 3\)"),
    ],
)
def test_crossnobis_refuses_what_does_not_fit(X: Any, precision: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        rs.crossnobis(X, precision=precision)


@pytest.mark.parametrize("X", [np.full((2, 5, 4), "a"), np.full((2, 5, 4), 1 + 1j), "text"])
def test_crossnobis_refuses_what_are_no_real_numbers(X: Any) -> None:
    with pytest.raises(InvalidTypeError, match="X"):
        rs.crossnobis(X)


def test_crossnobis_of_large_features_is_scaled_exactly() -> None:
    X = np.random.default_rng(0).normal(size=(3, 6, 4))
    found = rs.crossnobis(X * 2.0**505, precision=np.eye(4) * 2.0**-900)
    np.testing.assert_array_equal(found.values, rs.crossnobis(X).values * 2.0**110)


def test_crossnobis_brings_labelled_repeats_into_one_order() -> None:
    pd = pytest.importorskip("pandas")
    X = np.random.default_rng(0).normal(size=(3, 6, 4))
    frames = [pd.DataFrame(one, index=list("abcdef")) for one in X]
    found = rs.crossnobis([frames[0], frames[1].iloc[[3, 1, 0, 5, 4, 2]], frames[2]])
    np.testing.assert_array_equal(found.values, rs.crossnobis(X).values)
    assert found.ids == tuple("abcdef")
    assert rs.crossnobis([pd.DataFrame(one) for one in X]).ids is None
    for other in (frames[1].rename(index={"a": "z"}), pd.DataFrame(X[1]), X[1]):
        with pytest.raises(ItemMismatchError, match=r"X\[0\] and X\[1\]"):
            rs.crossnobis([frames[0], other, frames[2]])
    renamed = [one.set_axis(list("pqrs"), axis=1) for one in frames]
    with pytest.raises(InvalidInputError, match="another order"):
        rs.crossnobis([renamed[0], renamed[1][list("qprs")]])


class TestFiles:
    def test_npy_and_mat(self, tmp_path: Path) -> None:
        vector = pdist(sets()[0])
        np.save(tmp_path / "square.npy", squareform(vector))
        savemat(tmp_path / "one.mat", {"rdm": vector})
        savemat(tmp_path / "two.mat", {"rdm": squareform(vector), "other": np.eye(3)})
        for found in (
            rs.Dissimilarities.load(tmp_path / "square.npy"),
            rs.Dissimilarities.load(tmp_path / "one.mat"),
            rs.Dissimilarities.load(tmp_path / "two.mat", key="rdm"),
        ):
            np.testing.assert_array_equal(found.values.numpy(), squareform(vector))
        with pytest.raises(InvalidInputError, match="holds rdm, other; choose one by key"):
            rs.Dissimilarities.load(tmp_path / "two.mat")

    def test_hdf5_as_rsatoolbox_writes_it(self, tmp_path: Path) -> None:
        vectors = np.stack([pdist(one) for one in sets(n=5)])
        with h5py.File(tmp_path / "rdms.h5", "w") as file:
            file["dissimilarities"] = vectors
            file["pattern_descriptors/stimulus"] = np.array(list("abcde")).astype("S")
        load = rs.Dissimilarities.load
        found = load(tmp_path / "rdms.h5", index=1, ids="stimulus")
        np.testing.assert_array_equal(found.values.numpy(), squareform(vectors[1]))
        assert found.ids == tuple("abcde")
        for options, said in (
            ({}, "there are 2 matrices; choose one by index=0 to 1"),
            ({"index": 2}, "index is 2"),
            ({"index": 0, "ids": "conds"}, "the pattern descriptors are stimulus"),
        ):
            with pytest.raises(InvalidInputError, match=said):
                load(tmp_path / "rdms.h5", **options)

    def test_damaged_or_unknown_files_are_refused(self, tmp_path: Path) -> None:
        for name in ("a.npy", "a.mat", "a.h5", "a.csv"):
            (tmp_path / name).write_text("nothing")
            with pytest.raises((InvalidInputError, FileFormatError), match=name):
                rs.Dissimilarities.load(tmp_path / name)
        with pytest.raises(InvalidInputError, match="no such file"):
            rs.Dissimilarities.load(tmp_path / "none.npy")


def test_rsatoolbox_and_back(tmp_path: Path) -> None:
    rdm = pytest.importorskip("rsatoolbox.rdm")
    given = rs.Dissimilarities(with_gaps(sets()[0], 0.1, 0), ids=[f"i{k}" for k in range(30)])
    rdms = given.to_rsatoolbox()
    assert isinstance(rdms, rdm.RDMs)
    again = rs.Dissimilarities.from_rsatoolbox(rdms, ids="ids")
    np.testing.assert_array_equal(again.values.numpy(), given.values.numpy())
    assert again.ids == given.ids
    rdms.save(str(tmp_path / "rdms.h5"))
    read = rs.Dissimilarities.load(tmp_path / "rdms.h5", ids="ids")
    np.testing.assert_array_equal(read.values.numpy(), given.values.numpy())
    assert read.ids == given.ids
