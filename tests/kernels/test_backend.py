"""Which backend is chosen: by type, device, layout, size, environment and context."""

from __future__ import annotations

import pytest
import torch

from relspace._core.threads import on_one_core, side_by_side
from relspace.kernels import backend as backends
from relspace.kernels.backend import at_most, backend
from relspace.kernels.compiled import library
from relspace.kernels.compiled.library import LIBRARY

compiled = pytest.mark.skipif(LIBRARY is None, reason="switched off, or never compiled")


@compiled
def test_only_float32_rows_on_the_processor_are_compiled() -> None:
    assert backend(torch.empty(2, 2)) == "loops"
    assert backend(torch.empty(2, 2, dtype=torch.float64)) == "torch"
    assert backend(torch.empty(2, 3).T) == "torch"
    assert backend(torch.empty(2, 2, device="meta")) == "torch"


@compiled
@pytest.mark.skipif(
    LIBRARY is None or not LIBRARY.multiplies, reason="strips are for other processors"
)
@pytest.mark.parametrize("team", [None, (1, 2)])
def test_small_sets_are_worked_on_in_strips(
    monkeypatch: pytest.MonkeyPatch, team: tuple[int, int] | None
) -> None:
    monkeypatch.setattr(LIBRARY, "team", team)
    alone = ((2, 64, 2048), (2, 65, 1024), (4, 64, 640))
    together = ((2, 64, 8192), (2, 65, 4096), (4, 64, 8192))
    before = torch.get_num_threads()
    try:
        for threads, width, most in (
            *((1, 64, 4096), (1, 65, 1024)),
            *(alone if team is None else together),
        ):
            torch.set_num_threads(threads)
            assert backend(torch.empty(most, width), whole_set=True) == "strips"
            assert backend(torch.empty(most + 1, width), whole_set=True) == "loops"
            assert backend(torch.empty(most, width)) == "loops"
    finally:
        torch.set_num_threads(before)


def test_a_context_limits_the_choice_in_all_threads() -> None:
    X = torch.empty(9, 9)

    def ask(_: object = None) -> str:
        return backend(X, whole_set=True)

    usual = ask()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with at_most("torch"):
            assert ask() == "torch"
            assert on_one_core(ask, X.device) == "torch"
            assert side_by_side(lambda: ask, range(4), X.device) == ["torch"] * 4
    finally:
        torch.set_num_threads(before)
    assert ask() == usual


@compiled
def test_the_environment_switches_compiled_code_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELSPACE_COMPILED", "1")
    assert isinstance(library._load(), library.Library)
    monkeypatch.setenv("RELSPACE_COMPILED", "0")
    assert library._load() is None
    monkeypatch.setattr(backends, "LIBRARY", library._load())
    assert backend(torch.empty(2, 2)) == "torch"
