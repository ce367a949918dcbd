"""The aligner as a step of scikit-learn: cloned, in a pipeline, in a search over its density."""

from __future__ import annotations

import numpy as np
import pytest

import relspace as rs
from relspace.errors import NotFittedError

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

X = np.random.default_rng(0).normal(size=(60, 5))
Y = X[:, 0]


def test_a_clone_has_the_parameters_and_no_result() -> None:
    fitted = rs.Aligner(density=0.1).fit(X)
    copied = clone(fitted)
    assert copied.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        copied.transform(X)


def test_a_pipeline_regresses_on_relative_features() -> None:
    found = make_pipeline(rs.Aligner(), Ridge()).fit(X, Y).predict(X)
    expected = Ridge().fit(rs.Aligner().fit(X).transform(X), Y)
    np.testing.assert_allclose(found, expected.predict(rs.Aligner().fit(X).transform(X)))


def test_the_density_is_searched() -> None:
    pipeline = make_pipeline(rs.Aligner(), Ridge())
    search = GridSearchCV(pipeline, {"aligner__density": [0.1, 0.2]}, cv=3).fit(X, Y)
    assert search.best_params_["aligner__density"] in (0.1, 0.2)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_columns_are_named_by_their_numbers() -> None:
    names = rs.Aligner().fit(X).get_feature_names_out()
    assert names[[0, -1]].tolist() == ["aligner0", "aligner59"]
    assert len(names) == 60
