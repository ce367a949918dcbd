"""Old public names give what the new ones do, and a warning."""

from __future__ import annotations

import pytest
import torch

import relspace as rs
from relspace.errors import InvalidTypeError, RenamedWarning

X = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("old", "new"), [("AlignedSpace", rs.ItemSpace), ("SpatialSpace", rs.TokenSpace)]
)
def test_old_names_are_the_new_ones(old: str, new: type) -> None:
    with pytest.warns(RenamedWarning, match=f"relspace.{old} is now relspace.{new.__name__}"):
        assert getattr(rs, old) is new


def test_old_parameters_are_the_new_ones() -> None:
    space = rs.align({"a": X, "b": X.flip(1)})
    with pytest.warns(RenamedWarning, match="parameter k of match is now n_neighbors"):
        match = space.match("a", "b", k=2)  # type: ignore[call-arg]
    assert torch.equal(
        torch.as_tensor(match.indices), torch.as_tensor(space.match("a", "b", 2).indices)
    )
    with pytest.warns(RenamedWarning, match="Match.k is now"):
        assert match.k == match.n_neighbors == 2
    with pytest.warns(RenamedWarning, match="parameter k of kway is now n_clusters"):
        assert len(rs.kway({"a": X}, k=3)["a"].unique()) == 3  # type: ignore[call-overload]


def test_both_names_at_once_are_refused() -> None:
    space = rs.align({"a": X})
    with pytest.raises(InvalidTypeError, match="k is the old name of n_neighbors"):
        space.match("a", "a", k=2, n_neighbors=3)  # type: ignore[call-arg]
