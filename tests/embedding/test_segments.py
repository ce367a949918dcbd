"""Segments: what Yu and Shi's discretisation finds, whatever the rotation, the same in all sets."""

from __future__ import annotations

import pytest
import torch
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score

import relspace as rs
from relspace.errors import InvalidInputError


def blobs(n: int, seed: int, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centers = 5 * torch.randn(
        4, 10, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    labels = torch.multinomial(
        torch.tensor([0.4, 0.3, 0.2, 0.1]), n, replacement=True, generator=generator
    )
    noise = torch.randn(n, 10, generator=generator, dtype=torch.float64)
    return centers[labels] + spread * noise, labels


def test_finds_the_groups_with_one_numbering_for_all_sets() -> None:
    (X, x), (Y, y) = blobs(150, 0), blobs(200, 1)
    segments = rs.kway(rs.NormalizedCut(3).fit({"a": X, "b": Y}).embedding_, 4)
    assert {name: len(one) for name, one in segments.items()} == {"a": 150, "b": 200}
    found, truth = torch.cat(list(segments.values())), torch.cat([x, y])
    assert adjusted_rand_score(truth, found) == 1.0
    # Each segment of one set shows the same group as that of the other.
    for segment in range(4):
        assert (
            x[segments["a"] == segment].unique().tolist()
            == y[segments["b"] == segment].unique().tolist()
        )


def test_segments_are_numbered_by_size() -> None:
    X, _ = blobs(300, 0)
    (found,) = rs.kway(rs.NormalizedCut(3).fit(X).embedding_, 4).values()
    counts = torch.bincount(found, minlength=4)
    assert counts.tolist() == sorted(counts.tolist(), reverse=True)


def test_agrees_with_scikit_learns_discretisation() -> None:
    X, _ = blobs(250, 0, spread=2.5)
    A = torch.as_tensor(rs.rbf_affinity(X)).numpy()
    theirs = SpectralClustering(
        4, affinity="precomputed", assign_labels="discretize", random_state=0
    ).fit_predict(A)
    (ours,) = rs.kway(rs.NormalizedCut(3).fit(X).embedding_, 4).values()
    assert adjusted_rand_score(theirs, ours) > 0.9


def test_repeats_itself_and_hardly_depends_on_its_seed() -> None:
    X, _ = blobs(250, 0, spread=1.5)
    embedding = rs.NormalizedCut(3).fit(X).embedding_
    first, again = rs.kway(embedding, 4), rs.kway(embedding, 4)
    assert torch.equal(first["features"], again["features"])
    for seed in range(1, 5):
        other = rs.kway(embedding, 4, random_state=seed)
        assert adjusted_rand_score(first["features"], other["features"]) > 0.9


def test_more_components_than_needed_do_not_matter() -> None:
    X, _ = blobs(200, 0)
    embedding = rs.NormalizedCut(8).fit(X).embedding_
    assert torch.equal(
        rs.kway(embedding, 4)["features"],
        rs.kway({"features": embedding["features"][:, :3]}, 4)["features"],
    )


@pytest.mark.parametrize("k", [0, 1, 5, 200])
def test_clusters_out_of_range_is_refused(k: int) -> None:
    embedding = rs.NormalizedCut(3).fit(blobs(60, 0)[0]).embedding_
    with pytest.raises(InvalidInputError, match=f"n_clusters is {k}"):
        rs.kway(embedding, k)
