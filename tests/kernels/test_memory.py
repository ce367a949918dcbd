"""Peak memory of every kernel, measured in a process of its own, against what it projects."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.generators.fresh_process import printed

from relspace import cosine_affinity, rbf_affinity
from relspace.errors import MemoryBudgetError
from relspace.kernels import squared_distances

# Each case: what is set up, what is called with small and with large arguments, what is projected.
_SETUP = """
import json, torch, relspace as rs
from relspace.kernels import fit_normalization, squared_distances
from relspace.kernels.affinity import matrices_of_gradient
from relspace.kernels.bandwidth import projected_bandwidth
from relspace.kernels.correlation import correlation_blocks, projected_correlations
from relspace.kernels.compiled.strips import projected_strips
from relspace.kernels.distances import projected_matrix
from relspace.kernels.landmarks import projected_landmarks
from relspace.kernels.normalization import projected_normalization
from relspace.kernels.relative import column_profile, projected_profile, projected_rows
from relspace._core.resources import Resources

def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))

dtype = torch.{dtype}
def draw(n, width=64):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(n)).to(dtype)
"""

_MEASURE = """
small, large = {small}, {large}
call = {call}
call(*small)
before = resident("VmRSS:")
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")
result = call(*large)
print(json.dumps([resident("VmHWM:") - before, {projected}]))
"""

SQUARE = {"small": "[draw(700)]", "large": "[draw(4096)]"}
TWO = {"small": "[draw(700), draw(600) + 1]", "large": "[draw(4096), draw(3000) + 1]"}
GRADIENT = {
    "small": "[draw(300, 16).requires_grad_()]",
    "large": "[draw(3000, 16).requires_grad_()]",
}
TWO_GRADIENT = {
    "small": "[draw(300, 16).requires_grad_(), draw(290, 16)]",
    "large": "[draw(3000, 16).requires_grad_(), draw(2900, 16)]",
}
OF_SQUARE = "projected_matrix(4096, None, 64, dtype)"
OF_TWO = "projected_matrix(4096, 3000, 64, dtype)"

CASES: dict[str, dict[str, str]] = {
    "distances": {**SQUARE, "call": "squared_distances", "projected": OF_SQUARE},
    "distances of two": {**TWO, "call": "squared_distances", "projected": OF_TWO},
    "affinity": {**SQUARE, "call": "rs.rbf_affinity", "projected": OF_SQUARE},
    "affinity of two": {**TWO, "call": "rs.rbf_affinity", "projected": OF_TWO},
    "affinity, given": {
        **SQUARE,
        "call": "lambda X: rs.rbf_affinity(X, sigma=3.0)",
        "projected": OF_SQUARE,
    },
    "affinity of few": {
        "small": "[draw(300, 2000)]",
        "large": "[draw(1024, 2000)]",
        "call": "rs.rbf_affinity",
        "projected": "max(projected_strips(1024, 2000), projected_matrix(1024, None, 2000, dtype))",
    },
    "cosine affinity": {
        **SQUARE,
        "call": "rs.cosine_affinity",
        "projected": OF_SQUARE + " + 3 * 4096 * 64 * dtype.itemsize",
    },
    "bandwidth": {
        **SQUARE,
        "call": "rs.solve_bandwidth",
        "projected": "projected_bandwidth(4096, None, 64, dtype)",
    },
    "bandwidth of a sample": {
        "small": "[draw(2000)]",
        "large": "[draw(20_000)]",
        "call": "lambda X: rs.solve_bandwidth(X, max_items=500)",
        "projected": "projected_bandwidth(20_000, None, 64, dtype, max_items=500)",
    },
    "landmarks": {
        "small": "[10_000, 100]",
        "large": "[4_000_000, 1_000_000]",
        "call": "rs.choose_landmarks",
        "projected": "projected_landmarks(4_000_000, 1_000_000)",
    },
    "landmarks of many": {
        "small": "[10_000_000, 100]",
        "large": "[10_000_000, 1_000_000]",
        "call": "rs.choose_landmarks",
        "projected": "projected_landmarks(10_000_000, 1_000_000)",
    },
    "profile": {
        "small": "[rs.rbf_affinity(draw(100))]",
        "large": "[rs.rbf_affinity(draw(1500))]",
        "call": "lambda A: column_profile(A, standardize='whiten')",
        "projected": "projected_profile(1500, dtype)",
    },
    "relative rows": {
        "small": "[draw(700)]",
        "large": "[draw(20_000)]",
        "call": "rs.Aligner(density=0.1).fit(draw(500)).transform",
        "projected": "projected_rows(20_000, 500, 64, dtype)",
    },
    "correlations": {
        "small": "[draw(50, 80), draw(60, 80), torch.arange(50), torch.arange(60)]",
        "large": "[draw(1500, 80), draw(4000, 80), torch.arange(1500) % 80, "
        "torch.arange(4000) % 80]",
        "call": "lambda A, B, *own: [r.topk(2).values for _, r in correlation_blocks(A, B, *own)]",
        "projected": "min(2**27, projected_correlations(1500, 4000, dtype)) + 4 * 1500 * 2 * 8",
    },
    **{
        f"normalization, {method}": {
            "small": "[draw(100)]",
            "large": "[draw(30_000, 200)]",
            "call": f"lambda X: fit_normalization(X, {method!r})",
            "projected": f"projected_normalization(30_000, 200, {method!r}, dtype)",
        }
        for method in ("center", "zscore", "half-whiten+unit")
    },
    **{
        f"{what}, gradient": {
            **given,
            "call": f"lambda *sets: ({call})(*sets).sum().backward()",
            "projected": f"projected_matrix(3000, {m}, 16, dtype, {matrices})",
        }
        for what, call, matrices, given, m in (
            ("distances", "squared_distances", "6", GRADIENT, None),
            ("solved", "rs.rbf_affinity", "matrices_of_gradient(None)", TWO_GRADIENT, 2900),
            (
                "given",
                "lambda *sets: rs.rbf_affinity(*sets, sigma=3.0)",
                "matrices_of_gradient(3.0)",
                GRADIENT,
                None,
            ),
            (
                "bandwidth",
                "lambda *sets: rs.rbf_affinity(*sets, sigma=torch.tensor(3.0, dtype=dtype, "
                "requires_grad=True))",
                "matrices_of_gradient(torch.tensor(3.0))",
                GRADIENT,
                None,
            ),
            (
                "cosine",
                "rs.cosine_affinity",
                "matrices_of_gradient(None, cosine=True)",
                GRADIENT,
                None,
            ),
        )
    },
}

#: Measured with all other tests; the rest where there is time.
ALWAYS = ("distances", "affinity", "relative rows", "correlations")

#: What threads, allocators and the matrix product keep, from this call or from earlier ones.
_KEPT = 2**23


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak is reset through Linux's /proc"
)
@pytest.mark.parametrize(
    ("dtype", "case"),
    [
        pytest.param("float32", case, marks=[] if case in ALWAYS else pytest.mark.slow)
        for case in CASES
    ]
    + [pytest.param("float64", case, marks=pytest.mark.slow) for case in ALWAYS],
)
def test_no_more_is_added_than_is_projected(dtype: str, case: str) -> None:
    code = _SETUP.format(dtype=dtype) + _MEASURE.format(**CASES[case])
    added, projected = json.loads(printed(code))
    for _ in range(2):
        if added <= projected + _KEPT:
            break
        # On a busy machine freed pages are given back late; what is really held is held each time.
        added = min(added, json.loads(printed(code))[0])
    assert added <= projected + _KEPT, f"{added / projected:.2f} of what is projected"
    # A projection far above what is needed would refuse what fits. What an earlier call freed may
    # be reused, and isn't added.
    assert added + _KEPT >= 0.4 * projected, f"{added / projected:.2f} of what is projected"


@pytest.mark.parametrize("function", [rbf_affinity, cosine_affinity, squared_distances])
def test_matrices_for_the_gradient_are_counted(function, assume_free: Callable[..., None]) -> None:
    X = torch.randn(2100, 4, generator=torch.Generator().manual_seed(0))
    # Room for one matrix, not for all that a gradient takes.
    assume_free(3 * 2100**2 * 4)
    assert function(X).shape == (2100, 2100)
    with pytest.raises(MemoryBudgetError, match=r"with the \d+ that its gradient takes") as caught:
        function(X.requires_grad_())
    assert caught.value.limit == 3 * 2100**2 * 4
    assert (caught.value.n_bytes or 0) > 6 * 2100**2 * 4
