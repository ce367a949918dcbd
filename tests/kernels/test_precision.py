"""Products are taken in full precision, whatever a program allows for its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import relspace as rs
from relspace.kernels.precision import full_precision

CUDA, MKLDNN = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
X = torch.randn(90, 24, generator=torch.Generator().manual_seed(0))
Y = torch.randn(90, 16, generator=torch.Generator().manual_seed(1))
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "linalg_vecdot", "_cdist_forward")

#: What a program may have allowed.
ALLOWED: dict[str, Callable[[], Any]] = {
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "allow_tf32": lambda: setattr(CUDA, "allow_tf32", True),
    "cuda tf32": lambda: setattr(CUDA, "fp32_precision", "tf32"),
    "mkldnn bf16": lambda: setattr(MKLDNN, "fp32_precision", "bf16"),
    "all tf32": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
}


def settings() -> tuple[str, str]:
    return CUDA.fp32_precision, MKLDNN.fp32_precision


@contextmanager
def allowing(name: str) -> Iterator[None]:
    """Allow reduced precision, as another part of a program would."""
    ALLOWED[name]()
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.fp32_precision = "none"
        CUDA.fp32_precision = MKLDNN.fp32_precision = "none"


class Watch(TorchDispatchMode):
    """Notes the products of float32 numbers that reduced precision was allowed for."""

    def __init__(self) -> None:
        super().__init__()
        self.n_products = 0
        self.reduced: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = function.overloadpacket.__name__
        if name in PRODUCTS:
            given = [one.dtype for one in args if isinstance(one, torch.Tensor)]
            self.n_products += 1
            if torch.float64 not in given and (
                set(settings()) - {"none", "ieee"} or given[0] != torch.float32
            ):
                self.reduced.append(f"{name} of {given[0]}")
        return function(*args, **(kwargs or {}))


def _gradient(function: Callable[..., Any]) -> torch.Tensor:
    x = X.clone().requires_grad_()
    function(x).square().sum().backward()
    assert x.grad is not None
    return x.grad


def _space() -> rs.ItemSpace:
    space = rs.align({"a": X, "b": Y}, landmarks=40)
    assert isinstance(space, rs.ItemSpace)
    return space


def _aligned(**settings: Any) -> object:
    return rs.Aligner(**settings).fit(X[:40]).transform(X)


def _colors() -> object:
    cut = rs.NormalizedCut(4, n_landmarks=40).fit({"a": X, "b": X.flip(1)})
    return rs.colors(cut)["a"], rs.Coloring().fit(cut).transform(cut.transform("a", X))


CALLS: dict[str, Callable[[], object]] = {
    # Of features that lie column by column, whose products are torch's.
    "affinity": lambda: rs.rbf_affinity(X.T.contiguous().T),
    "affinity of two": lambda: rs.rbf_affinity(X, X[:20] + 1),
    "cosine affinity": lambda: rs.cosine_affinity(X),
    "gradient": lambda: _gradient(rs.rbf_affinity),
    "gradient of cosines": lambda: _gradient(rs.cosine_affinity),
    "gradient of distances": lambda: _gradient(rs.kernels.squared_distances),
    "distances": lambda: rs.kernels.squared_distances(X),
    "bandwidth of all": lambda: rs.solve_bandwidth(X),
    "bandwidth of a sample": lambda: rs.solve_bandwidth(X, max_items=70, tolerance=0.2),
    "relative features": lambda: _aligned(),
    "plain relative features": lambda: _aligned(normalize="none", standardize="none"),
    "distances in a space": lambda: _space().distances("a", "b"),
    "matches in a space": lambda: _space().match("a", "b").distances,
    "colours": _colors,
    **{
        f"measure {measure.name}": lambda measure=measure: measure(X, Y)
        for measure in map(rs.measures.get, rs.measures.names())
    },
}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A dispatch mode sees the thread that it is in."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("call", list(CALLS))
def test_no_product_is_reduced(call: str) -> None:
    with allowing("all tf32"), Watch() as watch:
        CALLS[call]()
    assert watch.n_products
    assert not watch.reduced


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("call", list(CALLS))
def test_autocast_changes_nothing(call: str) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), Watch() as watch:
        CALLS[call]()
        assert torch.is_autocast_enabled("cpu")
    assert not watch.reduced


@pytest.mark.parametrize("name", list(ALLOWED))
def test_what_was_allowed_is_allowed_again(name: str) -> None:
    expected = rs.rbf_affinity(X)
    with allowing(name):
        before = settings()
        assert set(before) - {"none", "ieee"}
        with full_precision():
            assert set(settings()) <= {"none", "ieee"}
            with full_precision():
                pass
            assert set(settings()) <= {"none", "ieee"}
        assert settings() == before
        # The library that multiplies may be another one; bfloat16 would differ by 1e-3.
        torch.testing.assert_close(rs.rbf_affinity(X), expected, rtol=0.0, atol=1e-6)
        with pytest.raises(rs.errors.BandwidthError):
            rs.rbf_affinity(torch.ones(10, 3))
        assert settings() == before


def test_what_is_set_for_all_is_still_taken_over_from_there() -> None:
    with allowing("all tf32"):
        rs.rbf_affinity(X)
        assert settings() == ("tf32", "tf32")
        torch.backends.fp32_precision = "ieee"
        assert settings() == ("ieee", "ieee")


def test_threads_that_overlap_keep_it_until_the_last_is_done() -> None:
    begun, finish = threading.Event(), threading.Event()

    def work() -> None:
        with full_precision():
            begun.set()
            finish.wait(10)

    with allowing("high"):
        before = settings()
        other = threading.Thread(target=work)
        with full_precision():
            other.start()
            assert begun.wait(10)
        assert set(settings()) <= {"none", "ieee"}
        finish.set()
        other.join()
        assert settings() == before
