"""What is said of every two models: numbers of the tables, and no p-value that wasn't computed."""

from __future__ import annotations

import numpy as np
import pytest

import relspace as rs
from relspace.similarity import pairs_of_models

rng = np.random.default_rng(0)
SHARED = rng.normal(size=(50, 6))
MODELS = {
    name: {
        "in": SHARED + 0.1 * rng.normal(size=SHARED.shape),
        "middle": rng.normal(size=(50, 5)),
        "out": np.tanh(SHARED @ rng.normal(size=(6, 4))) + rng.normal(size=(50, 4)),
    }
    for name in "abc"
}


@pytest.mark.parametrize("measure", ["cka", "procrustes"])
def test_two_models_and_the_same_two_among_others_agree(measure: str) -> None:
    settings = {"measure": measure, "n_permutations": 19}
    (two,) = pairs_of_models(
        rs.compare_layers(MODELS["a"], MODELS["b"], names=["a", "b"], **settings)
    )
    several = pairs_of_models(rs.compare_models(MODELS, **settings))
    assert [pair.models for pair in several] == [("a", "b"), ("a", "c"), ("b", "c")]
    for one, other in ((two.most_alike, several[0].most_alike), (two.last, several[0].last)):
        assert (one.layer, one.match) == (other.layer, other.match)
        assert one.value == pytest.approx(other.value, abs=1e-6)
    assert (two.most_alike.layer, two.most_alike.match) == ("in", "in")
    assert (two.last.layer, two.last.match) == ("out", "out")
    assert two.most_alike.p_value == several[0].most_alike.p_value == pytest.approx(0.05)
    assert two.last.p_value == several[0].last.p_value is not None


def test_the_last_layers_may_be_the_most_alike() -> None:
    models = {name: {"in": MODELS[name]["middle"], "out": MODELS[name]["in"]} for name in "abc"}
    for pair in pairs_of_models(rs.compare_models(models, measure="cka", n_permutations=19)):
        assert pair.last == pair.most_alike
        assert pair.last.p_value is not None
    for pair in pairs_of_models(rs.compare_models(models, measure="cka", n_permutations=0)):
        assert pair.last.p_value is None
        assert pair.to_dict()["last"]["match"] == "out"
