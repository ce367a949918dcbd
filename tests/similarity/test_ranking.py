"""Rival models beside references: values, tests, ceilings, tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import relspace as rs
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError, RelspaceWarning

N = 48
RNG = np.random.default_rng(0)
TRUTH = RNG.normal(size=(N, 5))
SUBJECTS = [TRUTH + RNG.normal(size=TRUTH.shape) for _ in range(4)]
MODELS = {
    "far": TRUTH + 2 * RNG.normal(size=TRUTH.shape),
    "near": TRUTH + 0.5 * RNG.normal(size=TRUTH.shape),
    "none": RNG.normal(size=(N, 3)),
}


def rank(references: object = SUBJECTS, models: object = MODELS, **options: Any) -> rs.ModelRanking:
    options = {"measure": "cka", "n_bootstraps": 24, "n_permutations": 39} | options
    return rs.compare_to(references, models, **options)  # type: ignore[arg-type]


def test_values_are_means_of_comparisons() -> None:
    found = rank()
    for j, model in enumerate(MODELS.values()):
        single = [rs.compare(model, one, measure="cka").value for one in SUBJECTS]
        np.testing.assert_allclose(found.by_reference[:, j], single, rtol=1e-6)
        assert found.values[j] == pytest.approx(np.mean(single))
    assert found.ranking == ("near", "far", "none")
    assert found.references == tuple(f"reference {k}" for k in (1, 2, 3, 4))


def test_what_is_shown_is_found() -> None:
    found = rank()
    i, j, k = (found.models.index(name) for name in ("far", "near", "none"))
    assert found.p_differences[i, j] < 0.01
    assert found.p_differences[j, k] < 0.01
    assert found.p_above_chance[j] < 0.01 < 0.05 < found.p_above_chance[k]
    assert found.p_permuted is not None
    assert found.calibrated is not None
    assert found.p_permuted[j] < 0.1
    assert found.calibrated[j] > 0.2
    assert found.calibrated[k] == 0
    low, high = found.intervals[j]
    assert low < found.values[j] < high
    low, high = found.difference_intervals[j, i]
    assert 0 < low < found.differences[j, i] < high
    np.testing.assert_allclose(found.difference_intervals[i, j], [-high, -low])
    np.testing.assert_array_equal(found.p_differences, found.p_differences.T)
    assert (found.p_differences.diagonal() == 1).all()


def test_one_reference_is_as_in_compare() -> None:
    found = rank(SUBJECTS[0], n_permutations=99)
    single = rs.compare(MODELS["near"], SUBJECTS[0], measure="cka", n_permutations=99)
    at = found.models.index("near")
    assert found.references == ("reference",)
    assert found.ceiling is None
    assert found.values[at] == pytest.approx(single.value)
    assert found.chance[at] == pytest.approx(single.chance)
    assert found.calibrated is not None
    assert found.calibrated[at] == pytest.approx(single.calibrated)


def test_order_of_references_and_models_does_not_matter() -> None:
    found, other = rank(), rank(SUBJECTS[::-1], dict(reversed(MODELS.items())))
    assert other.ranking == found.ranking
    np.testing.assert_allclose(other.values[::-1], found.values)
    np.testing.assert_allclose(other.intervals[::-1], found.intervals)
    np.testing.assert_allclose(other.p_differences[::-1, ::-1], found.p_differences, rtol=1e-6)
    assert found.ceiling is not None
    assert other.ceiling is not None
    assert other.ceiling.lower == pytest.approx(found.ceiling.lower)
    assert other.ceiling.upper == pytest.approx(found.ceiling.upper)


def test_items_permuted_alike_change_nothing_but_the_draws() -> None:
    order = np.random.default_rng(5).permutation(N)
    found = rank(n_bootstraps=150)
    other = rank(
        [one[order] for one in SUBJECTS],
        {name: one[order] for name, one in MODELS.items()},
        n_bootstraps=150,
    )
    np.testing.assert_allclose(other.values, found.values, rtol=1e-6)
    assert found.ceiling is not None
    assert other.ceiling is not None
    assert other.ceiling.upper == pytest.approx(found.ceiling.upper)
    # Other halves are drawn.
    np.testing.assert_allclose(other.standard_errors, found.standard_errors, rtol=0.4)


def test_items_are_paired_by_ids() -> None:
    names = [f"i{number}" for number in range(N)]
    order = np.random.default_rng(6).permutation(N)
    found = rank()
    given = {name: one[order] for name, one in MODELS.items()}
    ids = {key: [names[row] for row in order] for key in MODELS}
    ids |= {f"reference {k}": names for k in (1, 2, 3, 4)}
    other = rank(models=given, ids=ids)
    assert other.matched_by == "ids"
    np.testing.assert_allclose(other.values, found.values, rtol=1e-6)


def test_equal_models_do_not_differ_by_rounding() -> None:
    near = MODELS["near"].astype(np.float32)
    found = rank(models={"a": near, "b": 3 * near, "c": near[:, ::-1]})
    np.testing.assert_allclose(found.p_differences, 1, atol=0.2)


def test_ties_are_no_trouble() -> None:
    labels = np.eye(4)[np.arange(N) % 4]
    found = rank(
        labels, {"same": labels, "other": np.eye(4)[np.arange(N) // 12]}, measure="rsa_spearman"
    )
    assert found.values[0] == pytest.approx(1)
    assert abs(found.values[1]) < 0.2
    assert found.p_differences[0, 1] < 0.001


def test_two_references_have_a_ceiling() -> None:
    found = rank(SUBJECTS[:2])
    assert found.ceiling is not None
    assert found.ceiling.upper is not None
    between = rs.compare(*SUBJECTS[:2], measure="cka").value
    assert found.ceiling.lower == pytest.approx(between)
    assert found.ceiling.upper > between
    assert np.isfinite(found.intervals).all()


@pytest.mark.parametrize(
    ("measure", "method"), [("rsa", "corr"), ("rsa_cosine", "cosine"), ("rsa_kendall", "tau-a")]
)
def test_ceilings_are_those_of_rsatoolbox(measure: str, method: str) -> None:
    pytest.importorskip("rsatoolbox")
    from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling
    from rsatoolbox.rdm import RDMs

    distances = [np.linalg.norm(one[:, None] - one, axis=-1) for one in SUBJECTS]
    above = np.triu_indices(N, 1)
    lower, upper = boot_noise_ceiling(RDMs(np.stack([one[above] for one in distances])), method)
    found = rank(
        [rs.Dissimilarities(one) for one in distances],
        {"near": rs.Dissimilarities(distances[0])},
        measure=measure,
        n_bootstraps=20,
        n_permutations=0,
    )
    assert found.ceiling is not None
    assert found.ceiling.lower == pytest.approx(lower, abs=1e-9)
    assert found.ceiling.upper == pytest.approx(upper, abs=1e-9)


RSA = ["rsa", "rsa_cosine", "rsa_spearman", "rsa_kendall"]


def distances_of(X: NDArray[np.float64]) -> NDArray[np.float64]:
    distances: NDArray[np.float64] = np.linalg.norm(X[:, None] - X, axis=-1)
    return distances


@pytest.mark.parametrize("measure", RSA)
def test_ceilings_leave_out_missing_pairs(measure: str) -> None:
    matrices = [distances_of(one) for one in SUBJECTS]
    options: dict[str, Any] = {"measure": measure, "n_bootstraps": 20, "n_permutations": 0}
    whole = rank([rs.Dissimilarities(one) for one in matrices], {"truth": TRUTH}, **options).ceiling
    gap = matrices[0].copy()
    gap[0, 1] = gap[1, 0] = np.nan
    of_model = rank(
        [rs.Dissimilarities(one) for one in matrices], {"m": rs.Dissimilarities(gap)}, **options
    ).ceiling
    of_reference = rank(
        [rs.Dissimilarities(one) for one in [gap, *matrices[1:]]], {"truth": TRUTH}, **options
    ).ceiling
    assert whole is not None
    assert of_model is not None
    assert of_reference is not None
    assert (of_model.lower, of_model.upper) == pytest.approx((whole.lower, whole.upper), abs=1e-9)
    assert of_reference.lower == pytest.approx(whole.lower, abs=5e-3)
    assert of_reference.upper == pytest.approx(whole.upper, abs=5e-3)
    assert of_reference.lower != whole.lower


def test_ceilings_of_missing_pairs_are_those_of_the_others() -> None:
    # Items whose pairs are all missing change no ceiling.
    matrices = [distances_of(one) for one in SUBJECTS[:3]]
    for one in matrices:
        one[0, 1:] = one[1:, 0] = np.nan
    options: dict[str, Any] = {"n_bootstraps": 20, "n_permutations": 0}
    for measure in RSA:
        gaps, without = (
            rank(
                [rs.Dissimilarities(one) for one in some], {"truth": X}, measure=measure, **options
            )
            for some, X in ((matrices, TRUTH), ([one[1:, 1:] for one in matrices], TRUTH[1:]))
        )
        assert gaps.ceiling is not None
        assert without.ceiling is not None
        assert gaps.ceiling.lower == pytest.approx(without.ceiling.lower)
        assert gaps.ceiling.upper == pytest.approx(without.ceiling.upper)


def test_without_common_pairs_of_all_references_a_warning_says_so() -> None:
    references = []
    of_pair = np.triu(np.arange(N * N).reshape(N, N), 1)
    for k, one in enumerate(SUBJECTS[:3]):
        D = distances_of(one)
        D[((of_pair + of_pair.T) % 3 == k) & ~np.eye(N, dtype=bool)] = np.nan
        references.append(rs.Dissimilarities(D))
    with pytest.warns(RelspaceWarning, match="no noise ceiling: the sets have 0 pairs"):
        found = rank(references, {"truth": TRUTH}, measure="rsa", n_permutations=0)
    assert found.ceiling is None
    assert found.values[0] > 0


@pytest.mark.parametrize("measure", ["cka", "rsa", "rsa_spearman", "distance_correlation"])
def test_no_model_passes_the_upper_ceiling(measure: str) -> None:
    rivals = {"concatenated": np.concatenate(SUBJECTS, axis=1), "one": SUBJECTS[1], "truth": TRUTH}
    found = rank(models=rivals, measure=measure, n_bootstraps=20, n_permutations=0)
    assert found.ceiling is not None
    assert found.ceiling.upper is not None
    assert (found.values <= found.ceiling.upper + 1e-9).all()
    assert found.ceiling.lower < found.ceiling.upper


def test_measures_without_means_of_sets_say_how_alike_references_are() -> None:
    found = rank(measure="mutual_neighbors")
    assert found.ceiling is not None
    assert found.ceiling.upper is None
    assert "references with each other" in repr(found)


def test_distances_are_ranked_the_other_way() -> None:
    found = rank(measure="procrustes")
    assert found.measure.direction == "distance"
    assert found.ranking[0] == "near"
    assert found.p_above_chance[found.models.index("near")] < 0.01


def test_groups_are_units() -> None:
    groups = [f"g{number // 2}" for number in range(N)]
    found = rank(groups=groups)
    assert found.n_units == N // 2
    assert found.values[0] == pytest.approx(rank().values[0])


def test_tables_begin_with_the_best(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    found = rank()
    plain = json.loads(json.dumps(found.to_dict()))
    for of, table in (("models", found), ("differences", found.pairs)):
        table.to_csv(tmp_path / "t.csv")
        with (tmp_path / "t.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        frame = table.to_dataframe()
        assert [row["model"] for row in rows] == frame["model"].tolist()
        assert [row["model"] for row in plain[of]] == frame["model"].tolist()
        assert rows[0]["model"] == "near"
        assert len(rows) == 3
    assert plain["ceiling"]["pooled"] is True
    assert "Holm" in repr(found)
    assert "near" in found._repr_html_()


def test_the_figure_shows_every_model_and_every_pair() -> None:
    pytest.importorskip("matplotlib")
    for found in (rank(), rank(SUBJECTS[0], {"one": TRUTH}), rank(measure="mutual_neighbors")):
        figure = found.plot().figure
        labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
        assert [label.split()[0] for label in labels] == list(found.ranking)
        assert len(figure.axes) == (2 if len(found.models) > 1 else 1)
    pairs = rank().plot().figure.axes[1].get_lines()
    assert len(pairs) == 6


def test_without_permutations_there_is_no_permuted_p() -> None:
    found = rank(n_permutations=0)
    assert found.p_permuted is None
    assert found.calibrated is None
    assert found.thresholds is None
    assert "p permuted" not in repr(found)
    assert found.to_dict()["models"][0]["p_permuted"] is None


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"models": {}}, InvalidInputError, "models holds nothing"),
        ({"models": [TRUTH]}, InvalidTypeError, "models is of type list"),
        ({"references": {}}, InvalidInputError, "references is empty"),
        ({"references": {"near": TRUTH}}, InvalidInputError, "near is the name of a model and"),
        ({"models": {"flat": np.ones((N, 3))}}, InvalidInputError, "flat"),
        ({"references": [TRUTH, np.ones((N, 2))]}, InvalidInputError, "reference 2"),
        ({"references": TRUTH[:-1]}, ItemMismatchError, "47"),
        ({"n_bootstraps": 5}, InvalidInputError, "n_bootstraps is 5"),
        ({"correction": "fdr"}, InvalidInputError, "benjamini_hochberg"),
        ({"alpha": 0}, InvalidInputError, "alpha"),
        ({"max_items": 7}, InvalidInputError, "at least 8"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        rank(**arguments)


def test_models_are_drawn_into_axes_that_are_given() -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    _, (axes, other) = plt.subplots(1, 2)
    assert rank().plot(ax=axes, title="Here") is axes
    assert axes.get_title() == "Here"
    assert len(axes.figure.axes) == 2
    assert not other.has_data()
    plt.close("all")


def test_references_whose_names_are_one_text_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="references holds 1, '1'"):
        rs.compare_to({1: SUBJECTS[0], "1": SUBJECTS[1]}, {"one": TRUTH}, measure="cka")


def test_intervals_are_named_by_their_level() -> None:
    assert "99.9% intervals" in repr(rank(alpha=0.001))
