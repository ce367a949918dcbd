"""Translation: exact maps are found, held-out pairs judge, chance is chance, files restore it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge

import relspace as rs
from relspace.errors import InvalidInputError, ItemMismatchError
from relspace.features import FeatureSet, scan
from relspace.kernels.ridge import PENALTIES, ridge_weights
from relspace.space.translation import METHODS
from relspace.space.translator import Translator

generator = np.random.default_rng(0)
X = generator.normal(size=(300, 8))
ROTATION = np.linalg.qr(generator.normal(size=(8, 8)))[0]
LINEAR = X @ generator.normal(size=(8, 5)) + 7
CURVED = np.sin(1.5 * X @ generator.normal(size=(8, 12)) / np.sqrt(8))
UNRELATED = generator.normal(size=(300, 5))


@pytest.mark.parametrize("method", ["ridge", "local", "auto"])
def test_a_linear_map_is_found(method: str) -> None:
    fitted = Translator(method).fit(X[:200], LINEAR[:200])
    error = np.square(fitted.transform(X[200:]) - LINEAR[200:]).sum()
    explained = 1 - error / np.square(LINEAR[200:] - LINEAR[200:].mean(0)).sum()
    assert explained > (0.9 if method == "local" else 1 - 1e-9)
    assert fitted.score_.recall > (0.7 if method == "local" else 0.99)


def test_a_rotation_with_scale_and_shift_is_found_to_rounding() -> None:
    Y = 3 * X @ ROTATION + 100
    fitted = Translator("procrustes").fit(X[:50], Y[:50])
    np.testing.assert_allclose(fitted.transform(X), Y, atol=1e-9)


def test_a_curved_map_is_translated_locally() -> None:
    fitted = Translator().fit(X[:250], CURVED[:250])
    assert fitted.method_ == "local"
    assert fitted.scores_["local"].recall > fitted.scores_["ridge"].recall
    assert set(fitted.scores_) == set(METHODS)


def test_held_out_scores_are_those_of_new_items() -> None:
    many = np.random.default_rng(1).normal(size=(1200, 8))
    Y = np.tanh(many @ np.random.default_rng(2).normal(size=(8, 6)))
    fitted = Translator("ridge").fit(many[:600], Y[:600])
    new = Y[600:]
    missed = np.square(fitted.transform(many[600:]) - new).sum()
    r2 = 1 - missed / np.square(new - Y[:600].mean(0)).sum()
    assert fitted.score_.r2 == pytest.approx(r2, abs=0.03)


@pytest.mark.parametrize("method", METHODS)
def test_unrelated_sets_are_translated_at_chance(method: str) -> None:
    scores = []
    for seed in range(6):
        random = np.random.default_rng(seed)
        fitted = Translator(method).fit(
            random.normal(size=(200, 6)).astype(np.float32), random.normal(size=(200, 5))
        )
        scores.append(fitted.score_.recall - fitted.score_.chance)
        assert fitted.score_.r2 < 0.02
    assert abs(np.mean(scores)) < 0.02
    assert fitted.score_.chance == pytest.approx(10 / 199)


def test_local_translation_is_kernel_ridge_regression() -> None:
    x, y = torch.from_numpy(X[:80]), torch.from_numpy(CURVED[:80])
    made = METHODS["local"](x, y, 0)
    assert made.aligner is not None
    K = torch.as_tensor(made.aligner.affinity(x)).numpy()
    kernel = np.eye(80) - 1 / 80
    centred = kernel @ K @ kernel
    found = made(x).numpy() - CURVED[:80].mean(0)
    by_penalty = [
        KernelRidge(alpha=penalty * np.trace(centred), kernel="precomputed")
        .fit(centred, CURVED[:80] - CURVED[:80].mean(0))
        .predict(centred)
        for penalty in PENALTIES
    ]
    assert min(np.abs(found - one).max() for one in by_penalty) < 1e-6


@pytest.mark.parametrize("n", [20, 300])
def test_ridge_weights_solve_their_normal_equations(n: int) -> None:
    x, y = torch.from_numpy(X[:n] - X[:n].mean(0)), torch.from_numpy(CURVED[:n])
    y = y - y.mean(0)
    weights = ridge_weights(x, y)
    wanted = [
        torch.linalg.solve(
            x.T @ x + penalty * x.square().sum() * torch.eye(8, dtype=torch.float64), x.T @ y
        )
        for penalty in PENALTIES
    ]
    assert min(float((weights - one).abs().max()) for one in wanted) < 1e-8


def test_more_pairs_than_landmarks_are_all_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relspace.space.translation.N_CENTERS", 60)
    few = Translator("local").fit(X[:60], CURVED[:60])
    many = Translator("local").fit(X[:250], CURVED[:250])
    assert many.translation_.aligner is not None
    assert many.translation_.aligner.n_landmarks == 60
    errors = [np.square(one.transform(X[250:]) - CURVED[250:]).mean() for one in (few, many)]
    assert errors[1] < errors[0]


def test_out_comes_what_went_in() -> None:
    fitted = Translator("local").fit(X.astype(np.float32), CURVED)
    assert fitted.transform(X[:3].astype(np.float32)).dtype == np.float32
    made = fitted.transform(torch.from_numpy(X[:3]).float())
    assert isinstance(made, torch.Tensor)
    assert made.shape == (3, 12)
    assert (fitted.n_features_in_, fitted.n_features_out) == (8, 12)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_units_do_not_matter(scale: float) -> None:
    plain = Translator().fit(X, CURVED)
    scaled = Translator().fit(scale * X, CURVED / scale)
    assert scaled.method_ == plain.method_
    np.testing.assert_allclose(scaled.transform(scale * X) * scale, plain.transform(X), atol=1e-5)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (X[:9], LINEAR[:9], "there are 9 pairs"),
        (X[:20], LINEAR[:19], "X has 20 rows and Y has 19"),
        (np.ones((20, 3)), LINEAR[:20], "all rows of X are the same"),
        (X[:20], np.ones((20, 3)), "all rows of Y are the same"),
        (np.where(X[:20] > 2, np.nan, X[:20]), LINEAR[:20], "X"),
    ],
)
def test_what_can_not_be_learned_from_is_refused(x: object, y: object, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        Translator().fit(x, y)


@pytest.mark.parametrize(
    "parameters", [{"method": ""}, {"method": "linear"}, {"n_neighbors": 0}, {"n_neighbors": 299}]
)
def test_parameters_are_checked(parameters: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(parameters))):
        Translator(**parameters).fit(X, LINEAR)  # type: ignore[arg-type]


def test_rows_of_another_width_and_infinite_ones_are_refused() -> None:
    for method in ("ridge", "local"):
        fitted = Translator(method).fit(X, LINEAR)
        with pytest.raises(InvalidInputError, match="X has 5 features; this translator takes 8"):
            fitted.transform(LINEAR)
        with pytest.raises(InvalidInputError, match="X holds"):
            fitted.transform(np.where(X > 3, np.inf, X))


def test_a_space_translates_by_its_landmarks_and_after_loading(tmp_path: Path) -> None:
    space = rs.align({"old": X[:250], "new": CURVED[:250]})
    translated = space.translate("old", "new", X[250:])
    alone = Translator().fit(X[:250], CURVED[:250])
    np.testing.assert_allclose(translated, alone.transform(X[250:]), atol=1e-9)
    assert space.translator("old", "new") is space.translator("old", "new")
    loaded = rs.load_space(space.save(tmp_path / "space.safetensors"))
    np.testing.assert_array_equal(loaded.translate("old", "new", X[250:]), translated)


def test_a_space_translates_files_in_parts(tmp_path: Path) -> None:
    space = rs.align({"old": X[:250], "new": CURVED[:250]})
    np.save(tmp_path / "new.npy", X)
    written = space.translate(
        "old", "new", tmp_path / "new.npy", out=tmp_path / "out.zarr", memory_budget=20_000
    )
    wanted = space.translate("old", "new", X)
    np.testing.assert_allclose(written.read(0, 300).numpy(), wanted, atol=1e-9)
    assert scan(tmp_path / "out.zarr").shape == (300, 12)


def test_tokens_are_translated_by_the_positions_of_landmarks() -> None:
    maps = np.random.default_rng(3).normal(size=(30, 4, 4, 6)).astype(np.float32)
    other = (maps @ np.random.default_rng(4).normal(size=(6, 9))).astype(np.float32)
    a = FeatureSet.from_arrays({"l": maps[:20]}, layout="bhwc")
    b = FeatureSet.from_arrays({"l": other[:20]}, layout="bhwc")
    space = rs.align({"a": a, "b": b}, landmarks=60)
    tokens = maps[20:].reshape(-1, 6)
    np.testing.assert_allclose(
        space.translate("a", "b", tokens), other[20:].reshape(-1, 9), atol=2e-3
    )


def test_spaces_of_versions_before_say_what_they_lack() -> None:
    files = Path(__file__).parent / "files"
    old = rs.load_space(next(iter(sorted(files.glob("*.safetensors")))))
    first, second = old.names[:2]
    with pytest.raises(InvalidInputError, match="did not keep the landmarks' features"):
        old.translator(first, second)


def test_columns_of_tables_keep_their_names() -> None:
    import pandas as pd

    table = pd.DataFrame(X, columns=list("abcdefgh"))
    fitted = Translator("ridge").fit(table, LINEAR)
    with pytest.raises(InvalidInputError):
        fitted.transform(table[list("bacdefgh")])


def test_frames_are_paired_by_their_index() -> None:
    import pandas as pd

    names = [f"image {i}" for i in range(60)]
    x, y = pd.DataFrame(X[:60], index=names), pd.DataFrame(LINEAR[:60], index=names)
    shuffled = y.iloc[np.random.default_rng(0).permutation(60)]
    wanted = Translator("ridge").fit(x, y)
    np.testing.assert_array_equal(
        np.asarray(Translator("ridge").fit(x, shuffled).transform(X)),
        np.asarray(wanted.transform(X)),
    )
    with pytest.raises(ItemMismatchError, match="Y lacks"):
        Translator("ridge").fit(x.iloc[:30], y.iloc[30:])


@pytest.mark.parametrize("x", [X[:, :1].round(1), np.eye(4)[np.arange(300) % 4]])
def test_features_without_a_bandwidth_are_translated_otherwise(x: np.ndarray) -> None:
    fitted = Translator().fit(x, LINEAR)
    assert set(METHODS) - {"local"} <= set(fitted.scores_)
    assert fitted.score_.recall == max(one.recall for one in fitted.scores_.values())
