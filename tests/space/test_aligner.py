"""One set's way into the space: what it says of the features that it is given."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from relspace import Aligner
from relspace.errors import InvalidInputError
from relspace.space.aligner import FeatureNamesWarning


@pytest.mark.parametrize("with_names", ["the landmarks", "X"])
def test_names_of_features_that_only_one_side_has_are_warned_of(with_names: str) -> None:
    values = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    named = pd.DataFrame(values, columns=["a", "b", "c"])
    landmarks, given = (values, named) if with_names == "X" else (named, values)
    aligner = Aligner().fit(landmarks)
    with pytest.warns(FeatureNamesWarning, match=f"columns of {with_names} have names .*'a', 'b'"):
        aligner.transform(given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Aligner().fit(landmarks).transform(landmarks)


def test_columns_in_another_order_are_refused() -> None:
    values = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    named = pd.DataFrame(values, columns=["a", "b", "c"])
    with pytest.raises(InvalidInputError, match="same features in another order"):
        Aligner().fit(named).transform(named[["b", "a", "c"]])
