"""Files that an earlier version saved load, and give what they gave."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import relspace as rs
from relspace.features import FeatureSet

FILES = Path(__file__).parent / "files"
X = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))


def _tokens() -> object:
    generator = torch.Generator().manual_seed(0)
    maps = {name: torch.randn(3, 4, 2, 2, generator=generator) for name in ("a", "b")}
    return rs.align(
        {name: FeatureSet.from_arrays({"x": one}, layout="bchw") for name, one in maps.items()},
        landmarks=6,
        density=0.05,
        normalize="center+unit",
    )


#: What was saved, made again with the defaults of the time.
MADE = {
    "items": lambda: rs.align(
        {"a": X, "b": X.flip(1).numpy()},
        landmarks=6,
        ids=[f"item {i}" for i in range(9)],
        normalize="half-whiten+unit",
    ),
    "columns": lambda: rs.align(
        {"a": X.double(), "b": X.flip(1).double()}, normalize="zscore", standardize="columns"
    ),
    "tokens": _tokens,
}


@pytest.mark.parametrize("name", MADE)
def test_spaces_of_format_1_are_read(name: str) -> None:
    loaded, made = rs.load_space(FILES / f"{name}.safetensors"), MADE[name]()
    assert repr(loaded) == repr(made)
    assert loaded.parameters == made.parameters
    assert type(loaded["b"]) is type(made["b"])
    for one in loaded.names:
        torch.testing.assert_close(
            torch.as_tensor(loaded[one]), torch.as_tensor(made[one]), atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(
            torch.as_tensor(loaded.transform(one, X)),
            torch.as_tensor(made.transform(one, X)),
            atol=1e-5,
            rtol=1e-5,
        )
    torch.testing.assert_close(
        torch.as_tensor(loaded.distances("a", "b")),
        torch.as_tensor(made.distances("a", "b")),
        atol=1e-5,
        rtol=1e-5,
    )
