"""What is fitted on what: results of several classes, one made of another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import relspace as rs
from relspace.errors import NotFittedError

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))


def test_colors_of_an_unfitted_cut_are_refused() -> None:
    for call in (rs.Coloring().fit, rs.colors):
        with pytest.raises(NotFittedError, match=r"NormalizedCut is not fitted; call fit\(sets\)"):
            call(rs.NormalizedCut())


def test_a_refused_fit_leaves_the_earlier_one_whole() -> None:
    cut = rs.NormalizedCut(3).fit(X)
    before = cut["features"].clone()
    cut.n_components = 100
    with pytest.raises(ValueError, match="n_components is 100"):
        cut.fit({"other": X})
    assert cut.names_ == ("features",)
    assert torch.equal(cut["features"], before)


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor], ids=["array", "tensor"])
def test_out_comes_what_went_in(make: Callable[[torch.Tensor], object], tmp_path: Path) -> None:
    given = make(X)
    kind = type(given)
    cut = rs.NormalizedCut(3).fit({"a": given, "b": X + 1})
    loaded = rs.NormalizedCut.load(cut.save(tmp_path / "cut.safetensors"))
    coloring = rs.Coloring().fit(cut)
    again = rs.Coloring.load(coloring.save(tmp_path / "colors.safetensors"))
    results = {
        "embedding_": cut.embedding_["a"],
        "cut[name]": cut["a"],
        "moved": cut.to("cpu")["a"],
        "loaded": loaded["a"],
        "transform": cut.transform("a", given),
        "colors": rs.colors(cut)["a"],
        "colors_": coloring.colors_["a"],
        "colors loaded": again.colors_["a"],
        "kway": rs.kway(cut.embedding_, 3)["a"],
        "aligned": rs.NormalizedCut(3).fit(rs.align({"a": given, "b": X.flip(1)}))["a"],
        "single": rs.NormalizedCut(3).fit(given)["features"],
    }
    assert {name: type(one) for name, one in results.items()} == dict.fromkeys(results, kind)
    assert isinstance(cut["b"], torch.Tensor)
    np.testing.assert_array_equal(cut["a"], rs.NormalizedCut(3).fit({"a": X, "b": X + 1})["a"])
    np.testing.assert_array_equal(results["loaded"], cut["a"])
    np.testing.assert_array_equal(results["colors loaded"], coloring.colors_["a"])
