"""Fitted classes before ``fit``: every public member that needs a result refuses by one error."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import relspace as rs
from relspace.errors import NotFittedError

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))

#: Every way to ask for what is not there yet.
MEMBERS: dict[str, Callable[[Path], object]] = {
    "Aligner.n_landmarks": lambda _: rs.Aligner().n_landmarks,
    "Aligner.n_features_in_": lambda _: rs.Aligner().n_features_in_,
    "Aligner.device": lambda _: rs.Aligner().device,
    "Aligner.bandwidth_": lambda _: rs.Aligner().bandwidth_,
    "Aligner.landmarks_": lambda _: rs.Aligner().landmarks_,
    "Aligner.normalization_": lambda _: rs.Aligner().normalization_,
    "Aligner.profile_": lambda _: rs.Aligner().profile_,
    "Aligner.to": lambda _: rs.Aligner().to("cpu"),
    "Aligner.transform": lambda _: rs.Aligner().transform(X),
    "Aligner.transform, out": lambda p: rs.Aligner().transform(X, out=p / "out.npy"),
    "Aligner.affinity": lambda _: rs.Aligner().affinity(X),
    "Aligner.relative_rows": lambda _: rs.Aligner().relative_rows(X),
    "Aligner.standardize_in_place": lambda _: rs.Aligner().standardize_in_place(X, None),
    "Aligner.settings": lambda _: rs.Aligner().settings(),
    "NormalizedCut.embedding_": lambda _: rs.NormalizedCut().embedding_,
    "NormalizedCut.eigenvalues_": lambda _: rs.NormalizedCut().eigenvalues_,
    "NormalizedCut.graph_": lambda _: rs.NormalizedCut().graph_,
    "NormalizedCut[...]": lambda _: rs.NormalizedCut()["features"],
    "NormalizedCut.to": lambda _: rs.NormalizedCut().to("cpu"),
    "NormalizedCut.save": lambda p: rs.NormalizedCut().save(p / "cut.safetensors"),
    "NormalizedCut.transform": lambda _: rs.NormalizedCut().transform("features", X),
    "NormalizedCut.transform, out": lambda p: rs.NormalizedCut().transform(
        "features", X, out=p / "out.npy"
    ),
    "Coloring.colors_": lambda _: rs.Coloring().colors_,
    "Coloring.palette_": lambda _: rs.Coloring().palette_,
    "Coloring.rank_correlation_": lambda _: rs.Coloring().rank_correlation_,
    "Coloring.to": lambda _: rs.Coloring().to("cpu"),
    "Coloring.save": lambda p: rs.Coloring().save(p / "colors.safetensors"),
    "Coloring.transform": lambda _: rs.Coloring().transform(X),
    "Coloring.fit of an unfitted cut": lambda _: rs.Coloring().fit(rs.NormalizedCut()),
    "colors of an unfitted cut": lambda _: rs.colors(rs.NormalizedCut()),
}


@pytest.mark.parametrize("member", list(MEMBERS))
def test_what_needs_a_fit_says_so_and_writes_nothing(member: str, tmp_path: Path) -> None:
    with pytest.raises(NotFittedError, match=r"not fitted; call fit\("):
        MEMBERS[member](tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("one", [rs.Aligner(), rs.NormalizedCut(), rs.Coloring()])
def test_results_are_missing_as_any_attribute_is(one: object) -> None:
    assert not hasattr(one, "device_")
    assert not any(hasattr(one, name) for name in type(one)._results)
    with pytest.raises(AttributeError, match="has no attribute 'embeding_'") as raised:
        _ = one.embeding_
    assert not isinstance(raised.value, NotFittedError)
    assert repr(copy.deepcopy(one)) == repr(pickle.loads(pickle.dumps(one))) == repr(one)


def test_a_fitted_one_is_copied_and_pickled_whole() -> None:
    aligner = rs.Aligner().fit(X)
    for other in (copy.deepcopy(aligner), pickle.loads(pickle.dumps(aligner))):
        assert torch.equal(other.transform(X[:3]), aligner.transform(X[:3]))
        with pytest.raises(AttributeError, match="no attribute 'landmark_'"):
            _ = other.landmark_


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
