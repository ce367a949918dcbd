"""What everything that is fitted promises, whichever class it is."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.base import clone

import relspace as rs
from relspace._core.fitting import Fitted
from relspace.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    NotFittedError,
    RelspaceError,
)
from relspace.features import FeatureSet
from relspace.rows.fitted import FittedMap, FittedMaps

N, D = 60, 6
X = torch.randn(N, D, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Case:
    """A fitted class, its parameters, and how it is fitted and applied.

    Attributes
    ----------
    cls : type
        The class.
    fit : callable
        Fits an instance that was made with ``parameters``.
    parameters : dict
        Others than the defaults; empty for what has no constructor of its own.
    of : tuple of str
        What ``transform`` is given before the rows.
    rows : tensor
        Rows that it describes.
    """

    cls: type[Any]
    fit: Callable[[Any], Any]
    parameters: dict[str, Any] = field(default_factory=dict)
    of: tuple[str, ...] = ()
    rows: torch.Tensor = X

    def fitted(self) -> Any:
        return self.fit(self.cls(**self.parameters) if self.parameters else None)

    def unfitted(self) -> Any:
        return self.cls(**self.parameters)


def _cut() -> rs.NormalizedCut:
    return rs.NormalizedCut(4).fit({"a": X, "b": X.numpy() + 1})


def _tokens() -> Any:
    maps = torch.randn(4, 3, 3, D, generator=torch.Generator().manual_seed(0))
    features = FeatureSet.from_arrays({"l": maps}, layout="bhwc")
    return rs.align({"a": features, "b": features.pool((2, 2))}, landmarks=20)


CASES = {
    "Aligner": Case(
        rs.Aligner,
        lambda one: one.fit(X[:20]),
        {"density": 0.3, "normalize": "zscore", "standardize": "columns"},
    ),
    "NormalizedCut": Case(
        rs.NormalizedCut,
        lambda one: one.fit({"a": X, "b": X.numpy() + 1}),
        {
            "n_components": 4,
            "density": 0.1,
            "within_weight": 0.5,
            "n_landmarks": 80,
            "random_state": 3,
        },
        of=("a",),
    ),
    "Coloring": Case(
        rs.Coloring,
        lambda one: one.fit(_cut()),
        {"method": "spectral", "quantile": 0.05, "random_state": 3},
        rows=torch.as_tensor(_cut()["a"]),
    ),
    "Translator": Case(
        rs.Translator,
        lambda one: one.fit(X[:40], X[:40, :4].sin()),
        {"method": "local", "n_neighbors": 5, "random_state": 3},
    ),
    "ItemSpace": Case(
        rs.ItemSpace, lambda _: rs.align({"a": X, "b": X.numpy()}, landmarks=20), of=("a",)
    ),
    "TokenSpace": Case(rs.TokenSpace, lambda _: _tokens(), of=("a",)),
}
WITH_PARAMETERS = [name for name, case in CASES.items() if case.parameters]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(params=WITH_PARAMETERS)
def estimator(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def _subclasses(one: type) -> set[type]:
    return {one} | {other for sub in one.__subclasses__() for other in _subclasses(sub)}


def test_every_fitted_class_is_tried() -> None:
    found = _subclasses(FittedMap) | _subclasses(FittedMaps) | _subclasses(Fitted)
    concrete = {
        one for one in found if not inspect.isabstract(one) and one.__module__ != "relspace"
    }
    assert concrete - {Fitted} == {case.cls for case in CASES.values()}


class TestParameters:
    def test_are_kept_as_given(self, estimator: Case) -> None:
        strange = {name: object() for name in estimator.parameters}
        kept = estimator.cls(**strange)
        for name, value in strange.items():
            assert getattr(kept, name) is value
        assert kept.get_params() == strange

    def test_are_what_the_signature_says(self, estimator: Case) -> None:
        signature = inspect.signature(estimator.cls)
        assert list(estimator.cls().get_params()) == list(signature.parameters)
        defaults = {name: one.default for name, one in signature.parameters.items()}
        assert estimator.cls().get_params() == defaults

    def test_can_be_set(self, estimator: Case) -> None:
        one = estimator.cls()
        assert one.set_params(**estimator.parameters) is one
        assert one.get_params() == estimator.parameters
        with pytest.raises(InvalidInputError, match="has no parameter 'colour'; it has"):
            one.set_params(colour=3)

    def test_are_cloned_by_scikit_learn(self, estimator: Case) -> None:
        fitted = estimator.fitted()
        other = clone(fitted)
        assert type(other) is estimator.cls
        assert other.get_params() == estimator.parameters
        with pytest.raises(NotFittedError):
            other.transform(*estimator.of, estimator.rows)

    def test_are_shown(self, estimator: Case) -> None:
        shown = repr(estimator.unfitted())
        assert shown.startswith(f"{estimator.cls.__name__}(")
        for name, value in estimator.parameters.items():
            assert f"{name}={value!r}" in shown
        names = {estimator.cls.__name__: estimator.cls}
        assert eval(shown, names).get_params() == estimator.parameters


class TestBeforeFit:
    def test_every_member_that_needs_a_result_refuses(
        self, estimator: Case, tmp_path: Path
    ) -> None:
        cls = estimator.cls
        members = [*cls._results, *(n for n, one in inspect.getmembers(cls) if _is_property(one))]
        assert len(members) >= 3
        for name in members:
            with pytest.raises(NotFittedError, match=r"not fitted; call fit\("):
                getattr(estimator.unfitted(), name)
            assert not hasattr(estimator.unfitted(), name)
        rows = (*estimator.of, estimator.rows)
        calls: dict[str, Callable[[Any], object]] = {
            "to": lambda one: one.to("cpu"),
            "save": lambda one: one.save(tmp_path / "one.safetensors"),
            "transform": lambda one: one.transform(*rows),
            "transform, out": lambda one: one.transform(*rows, out=tmp_path / "out.npy"),
        }
        more = {
            "affinity": lambda one: one.affinity(X),
            "standardize_in_place": lambda one: one.standardize_in_place(X, None),
            "__getitem__": lambda one: one["a"],
        }
        calls |= {name: call for name, call in more.items() if hasattr(cls, name)}
        for call in calls.values():
            with pytest.raises(NotFittedError, match=r"not fitted; call fit\("):
                call(estimator.unfitted())
        assert list(tmp_path.iterdir()) == []

    def test_other_attributes_are_just_missing(self, estimator: Case) -> None:
        for one in (estimator.unfitted(), estimator.fitted()):
            with pytest.raises(AttributeError, match="has no attribute 'embeding_'") as raised:
                _ = one.embeding_
            assert not isinstance(raised.value, NotFittedError)

    def test_can_be_copied_and_pickled(self, estimator: Case) -> None:
        one = estimator.unfitted()
        assert repr(copy.deepcopy(one)) == repr(pickle.loads(pickle.dumps(one))) == repr(one)


def _is_property(member: object) -> bool:
    return isinstance(member, property)


def _results(case: Case, fitted: Any) -> torch.Tensor:
    return torch.as_tensor(fitted.transform(*case.of, case.rows))


class TestTransform:
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("kind", [torch.Tensor, np.ndarray])
    def test_gives_what_it_was_given(self, case: Case, kind: type, dtype: str) -> None:
        fitted = case.fitted()
        given: Any = case.rows.to(getattr(torch, dtype))
        given = given.numpy() if kind is np.ndarray else given
        found = fitted.transform(*case.of, given)
        assert type(found) is kind
        assert str(found.dtype).removeprefix("torch.") == dtype
        expected = _results(case, fitted).double()
        tolerance = 2e-2 if dtype == "float16" else 1e-5
        torch.testing.assert_close(
            torch.as_tensor(found).double(), expected, atol=tolerance, rtol=tolerance
        )

    def test_in_blocks_is_at_once(self, case: Case, tmp_path: Path) -> None:
        fitted = case.fitted()
        expected = _results(case, fitted)
        np.save(tmp_path / "x.npy", case.rows)
        half = len(case.rows) // 2
        given: list[Any] = [
            tmp_path / "x.npy",
            np.load(tmp_path / "x.npy", mmap_mode="r"),
            [case.rows[:half], case.rows[half:]],
        ]
        for one in given:
            found = torch.as_tensor(fitted.transform(*case.of, one, memory_budget=4000))
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)

    def test_of_a_dask_array_is_lazy(self, case: Case) -> None:
        fitted = case.fitted()
        lazy = fitted.transform(*case.of, da.from_array(case.rows.numpy(), chunks=(25, 3)))
        assert isinstance(lazy, da.Array)
        np.testing.assert_allclose(lazy.compute(), _results(case, fitted), atol=1e-5)

    @pytest.mark.parametrize("name", ["out.npy", "out.zarr"])
    def test_can_be_written(self, case: Case, tmp_path: Path, name: str) -> None:
        fitted = case.fitted()
        expected = _results(case, fitted)
        n_done: list[int] = []
        out = rs.Output(tmp_path / name, chunk_rows=16)
        found = fitted.transform(
            *case.of, case.rows, out=out, progress=lambda done, *_: n_done.append(done)
        )
        written = found.read(0, len(case.rows))
        torch.testing.assert_close(written, expected, atol=1e-6, rtol=1e-5)
        assert n_done == sorted(n_done)
        assert n_done[-1] == len(case.rows)
        # The same call finds it done; another job is refused.
        again = fitted.transform(*case.of, case.rows, out=out)
        assert torch.equal(again.read(0, len(case.rows)), written)
        with pytest.raises(RelspaceError, match="overwrite"):
            fitted.transform(*case.of, case.rows + 1, out=out)

    def test_a_cluster_needs_an_output(self, case: Case) -> None:
        with pytest.raises(InvalidInputError, match="client is for results that are written"):
            case.fitted().transform(*case.of, case.rows, client=object())

    def test_refuses_another_width(self, case: Case, tmp_path: Path) -> None:
        fitted = case.fitted()
        wide = torch.cat([case.rows, case.rows], dim=1)
        np.save(tmp_path / "wide.npy", wide)
        for given in (wide, tmp_path / "wide.npy", da.from_array(wide.numpy())):
            with pytest.raises(InvalidInputError, match=f"X has {wide.shape[1]} "):
                fitted.transform(*case.of, given)
            with pytest.raises(InvalidInputError, match=f"X has {wide.shape[1]} "):
                fitted.transform(*case.of, given, out=tmp_path / "out.npy")
        assert not (tmp_path / "out.npy").exists()

    def test_refuses_numbers_that_are_not_finite(self, case: Case, tmp_path: Path) -> None:
        fitted = case.fitted()
        rows = case.rows.clone()
        rows[7, 1] = torch.nan
        np.save(tmp_path / "nan.npy", rows)
        for given in (rows, tmp_path / "nan.npy"):
            with pytest.raises(InvalidInputError, match=r"X holds 1 NaN .*\(7, 1\)"):
                fitted.transform(*case.of, given)


class TestDevices:
    def test_the_cpu_is_one(self, case: Case) -> None:
        fitted = case.fitted()
        moved = fitted.to("cpu")
        assert type(moved) is type(fitted)
        assert moved is not fitted
        assert torch.equal(_results(case, moved), _results(case, fitted))

    def test_others_are_refused(self, case: Case) -> None:
        with pytest.raises(InvalidInputError, match="device is 'gpu'"):
            case.fitted().to("gpu")


class TestFiles:
    def test_hold_the_same(self, case: Case, tmp_path: Path) -> None:
        fitted = case.fitted()
        path = fitted.save(tmp_path / "one.safetensors")
        assert path == tmp_path / "one.safetensors"
        loaded = case.cls.load(path)
        assert repr(loaded) == repr(fitted)
        assert torch.equal(_results(case, loaded), _results(case, fitted))
        again = loaded.save(tmp_path / "two.safetensors")
        assert again.read_bytes() == path.read_bytes()

    def test_that_were_changed_are_refused(self, case: Case, tmp_path: Path) -> None:
        path = case.fitted().save(tmp_path / "one.safetensors")
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=r"one\.safetensors"):
            case.cls.load(path)
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(FileFormatError, match=r"one\.safetensors can't be read"):
            case.cls.load(path)

    def test_of_others_and_of_later_versions_are_refused(self, case: Case, tmp_path: Path) -> None:
        path = case.fitted().save(tmp_path / "one.safetensors")
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = json.loads(file.metadata()["relspace"])
        del metadata["sha256"]
        for change, said in (
            ({"kind": "recipe"}, "holds a recipe, not a"),
            ({"format_version": 2}, "format version 2; this relspace reads up to 1"),
        ):
            other = tmp_path / "other.safetensors"
            save_file(tensors, other, {"relspace": json.dumps(metadata | change)})
            with pytest.raises(FileFormatError, match=said):
                case.cls.load(other)
        with pytest.raises(FileNotFoundError, match="nowhere"):
            case.cls.load(tmp_path / "nowhere.safetensors")
        with pytest.raises(InvalidTypeError, match="path is 3"):
            case.cls.load(3)
