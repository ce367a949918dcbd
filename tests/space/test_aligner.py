"""One set's way into the space: what it says of the features that it is given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from relspace import Aligner
from relspace.errors import InvalidInputError


@pytest.mark.parametrize("with_names", ["the landmarks", "X"])
def test_features_of_which_one_side_has_names_are_taken_in_their_order(with_names: str) -> None:
    values = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    named = pd.DataFrame(values, columns=["a", "b", "c"])
    landmarks, given = (values, named) if with_names == "X" else (named, values)
    found = Aligner().fit(landmarks).transform(given)
    assert np.array_equal(found, Aligner().fit(values).transform(values))


def test_columns_in_another_order_are_refused() -> None:
    values = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    named = pd.DataFrame(values, columns=["a", "b", "c"])
    with pytest.raises(InvalidInputError, match="same features in another order"):
        Aligner().fit(named).transform(named[["b", "a", "c"]])
