"""Normalized cut: accuracy against dense references, extension, signs, files, refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import eigh, subspace_angles

import relspace as rs
from relspace.embedding.components import leading_components
from relspace.errors import (
    BandwidthError,
    FileFormatError,
    InvalidInputError,
    MemoryBudgetError,
    NonFiniteError,
    UnknownNameError,
)

K = 5


def clusters(n: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Tokens around six centres of different weight, so that leading eigenvalues lie apart."""
    generator = torch.Generator().manual_seed(seed)
    centers = 2 * torch.randn(6, 12, generator=torch.Generator().manual_seed(9), dtype=dtype)
    chosen = torch.multinomial(
        torch.tensor([0.28, 0.22, 0.18, 0.14, 0.1, 0.08]), n, replacement=True, generator=generator
    )
    return centers[chosen] + torch.randn(n, 12, generator=generator, dtype=dtype)


def two_sets(n: int = 120, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    """The same concepts in two sets of different size that lie apart, as two models' tokens do."""
    return {"a": clusters(n, 1, dtype), "b": clusters(n + 30, 2, dtype) + 1.5}


def dense_solution(W: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The generalised problem W y = lambda D y itself, by a dense solver in float64."""
    degrees = W.sum(1)
    values, vectors = eigh(W, np.diag(degrees), subset_by_index=[len(W) - k - 1, len(W) - 2])
    return values[::-1], vectors[:, ::-1]


def largest_angle(A: torch.Tensor, B: np.ndarray) -> float:
    return float(subspace_angles(A.double().numpy(), B).max())


def reference_weights(cut: rs.NormalizedCut, sets: dict[str, torch.Tensor]) -> np.ndarray:
    """The joint graph from coordinate differences, with bandwidths solved block by block."""
    names = list(sets)
    rows = []
    for a in names:
        row = []
        for b in names:
            X, Y = sets[a].double().numpy(), sets[b].double().numpy()
            squared = ((X[:, None] - Y[None]) ** 2).sum(-1)
            given = (sets[a],) if a == b else (sets[a], sets[b])
            sigma = rs.solve_bandwidth(*given, density=cut.density).sigma
            weight = cut.within_weight if a == b and len(names) > 1 else 1.0
            row.append(weight * np.exp(-squared / (2 * sigma**2)))
        rows.append(np.concatenate(row, 1))
    return np.concatenate(rows, 0)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-6), (torch.float32, 1e-3)])
@pytest.mark.parametrize("joint", [False, True])
def test_agrees_with_a_dense_solution(dtype: torch.dtype, limit: float, joint: bool) -> None:
    sets = two_sets(dtype=dtype) if joint else {"features": clusters(250, dtype=dtype)}
    cut = rs.NormalizedCut(K).fit(sets)
    values, vectors = dense_solution(reference_weights(cut, sets), K)
    found = torch.cat(list(cut.embedding_.values()))
    assert largest_angle(found, vectors) < limit
    np.testing.assert_allclose(cut.eigenvalues_.numpy(), values, atol=limit)
    assert found.dtype == dtype


def test_agrees_with_scikit_learn() -> None:
    from sklearn.manifold import SpectralEmbedding

    # scikit-learn leaves self-affinities out, so both get a matrix without any.
    A = torch.as_tensor(rs.rbf_affinity(clusters(200))).fill_diagonal_(0.0)
    _, vectors = leading_components(A, K)
    theirs = SpectralEmbedding(K, affinity="precomputed", random_state=0).fit_transform(A.numpy())
    assert largest_angle(vectors, theirs) < 1e-4


def test_eigenvectors_solve_the_problem_and_are_orthonormal_by_degree() -> None:
    X = clusters(200)
    cut = rs.NormalizedCut(K).fit(X)
    W = cut.graph_.weights()
    degrees = W.sum(1)
    Y = cut["features"]
    torch.testing.assert_close(W @ Y / degrees[:, None], Y * cut.eigenvalues_, atol=1e-7, rtol=0)
    gram = (Y * (degrees / degrees.sum())[:, None]).T @ Y
    torch.testing.assert_close(gram, torch.eye(K, dtype=Y.dtype), atol=1e-6, rtol=0)


def test_every_block_of_the_joint_graph_is_as_dense() -> None:
    sets = two_sets()
    cut = rs.NormalizedCut(K, density=0.07, within_weight=0.4).fit(sets)
    W, split = cut.graph_.weights(), len(sets["a"])
    a, b, between = W[:split, :split] / 0.4, W[split:, split:] / 0.4, W[:split, split:]
    for own in (a, b):
        n = len(own)
        assert float((own.sum() - n) / (n * (n - 1))) == pytest.approx(0.07, rel=1e-4)
    assert float(between.mean()) == pytest.approx(0.07, rel=1e-4)
    torch.testing.assert_close(W, W.T)


def test_a_balanced_graph_splits_by_concept_where_a_plain_one_splits_by_set() -> None:
    sets = {name: rows + 8 * (name == "b") for name, rows in two_sets().items()}
    together = torch.cat(list(sets.values()))
    belongs = torch.cat([torch.full((len(one),), i) for i, one in enumerate(sets.values())])

    def share_of_set(first: torch.Tensor) -> float:
        """How much of the first component is explained by which set a token belongs to."""
        return abs(float(torch.corrcoef(torch.stack([first, belongs.to(first)]))[0, 1]))

    plain = rs.NormalizedCut(1).fit(together)["features"][:, 0]
    balanced = torch.cat(list(rs.NormalizedCut(1).fit(sets).embedding_.values()))[:, 0]
    assert share_of_set(plain) > 0.95
    assert share_of_set(balanced) < 0.5


def test_repeats_itself_with_signs_that_do_not_depend_on_the_order() -> None:
    X = clusters(150)
    cut, again = rs.NormalizedCut(K).fit(X), rs.NormalizedCut(K).fit(X)
    assert torch.equal(cut["features"], again["features"])
    largest = cut["features"].gather(0, cut["features"].abs().argmax(0, keepdim=True))
    assert bool((largest > 0).all())
    order = torch.randperm(150, generator=torch.Generator().manual_seed(1))
    turned = rs.NormalizedCut(K).fit(X[order])
    torch.testing.assert_close(turned["features"], cut["features"][order], atol=1e-6, rtol=0)


def test_transform_gives_nodes_their_own_value() -> None:
    sets = two_sets()
    cut = rs.NormalizedCut(K).fit(sets)
    for name, rows in sets.items():
        torch.testing.assert_close(cut.transform(name, rows), cut[name], atol=1e-9, rtol=0)
    with_landmarks = rs.NormalizedCut(K, n_landmarks=80).fit(sets)
    for name, rows in sets.items():
        torch.testing.assert_close(with_landmarks.transform(name, rows), with_landmarks[name])


def test_the_extension_comes_near_the_exact_solution() -> None:
    X = clusters(900)
    exact = rs.NormalizedCut(K).fit(X)
    angles = [
        largest_angle(
            rs.NormalizedCut(K, n_landmarks=m).fit(X)["features"], exact["features"].numpy()
        )
        for m in (60, 450)
    ]
    assert angles[1] < 0.25
    assert angles[1] < angles[0]


def test_extended_components_are_orthonormal_by_degree() -> None:
    X = clusters(900)
    cut = rs.NormalizedCut(K, n_landmarks=200).fit(X)
    edges = X.new_empty(len(X), 200)
    cut.graph_.edges(0, cut.graph_.frame.place(X), edges)
    share = edges.sum(1) / edges.sum()
    Y = cut["features"]
    torch.testing.assert_close(
        (Y * share[:, None]).T @ Y, torch.eye(K, dtype=Y.dtype), atol=1e-8, rtol=0
    )


def test_new_tokens_land_among_those_of_their_cluster() -> None:
    X, new = clusters(600, 0), clusters(200, 5)
    cut = rs.NormalizedCut(K).fit(X)
    near_in_features = torch.cdist(new, X).argmin(1)
    apart = (cut.transform("features", new) - cut["features"][near_in_features]).norm(dim=1)
    spread = torch.cdist(cut["features"], cut["features"]).median()
    assert float(apart.median()) < 0.1 * float(spread)


def test_a_token_far_from_everything_belongs_nowhere() -> None:
    cut = rs.NormalizedCut(K).fit(clusters(100))
    assert torch.equal(
        cut.transform("features", torch.full((1, 12), 1e6, dtype=torch.float64)),
        torch.zeros(1, K, dtype=torch.float64),
    )


def test_arrays_come_back_as_arrays_and_spaces_are_taken_whole() -> None:
    X = clusters(100).numpy()
    space = rs.align({"a": X, "b": X[:, ::-1].copy()})
    cut = rs.NormalizedCut(3).fit(space)
    assert cut.names_ == ("a", "b")
    back = cut.transform("a", space["a"])
    assert isinstance(back, np.ndarray)
    assert back.shape == (100, 3)


def test_what_is_saved_comes_back_to_the_bit(tmp_path: Path) -> None:
    sets = two_sets(dtype=torch.float32)
    cut = rs.NormalizedCut(K, density=0.06, n_landmarks=100, random_state=3).fit(sets)
    loaded = rs.NormalizedCut.load(cut.save(tmp_path / "new" / "cut.safetensors"))
    assert repr(loaded) == repr(cut)
    assert torch.equal(loaded.eigenvalues_, cut.eigenvalues_)
    for name, rows in sets.items():
        assert torch.equal(loaded[name], cut[name])
        assert torch.equal(loaded.transform(name, rows[:7]), cut.transform(name, rows[:7]))


def test_other_files_are_refused(tmp_path: Path) -> None:
    other = rs.align({"a": clusters(20), "b": clusters(20)}).save(tmp_path / "space.safetensors")
    with pytest.raises(FileFormatError, match="holds a aligned space, not a normalized cut"):
        rs.NormalizedCut.load(other)
    broken = rs.NormalizedCut(2).fit(clusters(20)).save(tmp_path / "cut.safetensors")
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(FileFormatError, match="can't be read"):
        rs.NormalizedCut.load(broken)
    with pytest.raises(FileNotFoundError):
        rs.NormalizedCut.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_components": 0}, "n_components"),
        ({"n_components": 29}, "n_components is 29 and the graph has 30 nodes; .* at most 28"),
        ({"density": 1.0}, "density"),
        ({"density": 0.0}, "density"),
        ({"within_weight": 0.0}, "within_weight"),
        ({"within_weight": -1.0}, "within_weight"),
        ({"n_landmarks": 2}, "n_landmarks"),
        ({"random_state": -1}, "random_state"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        rs.NormalizedCut(**{"n_components": 3, **settings}).fit(clusters(30))  # type: ignore[arg-type]


def test_bad_tokens_are_refused() -> None:
    X = clusters(30)
    with pytest.raises(InvalidInputError, match="b has 11 columns and a has 12"):
        rs.NormalizedCut(3).fit({"a": X, "b": X[:, :11]})
    with pytest.raises(InvalidInputError, match="sets is empty"):
        rs.NormalizedCut(3).fit({})
    with pytest.raises(NonFiniteError):
        rs.NormalizedCut(3).fit(X.index_fill(0, torch.tensor([4]), torch.nan))
    with pytest.raises(BandwidthError, match="tokens of features and features"):
        rs.NormalizedCut(3).fit(torch.ones(30, 4))


def test_a_graph_that_does_not_fit_is_refused(assume_free: Callable[..., None]) -> None:
    assume_free(50_000)
    with pytest.raises(MemoryBudgetError, match=r"graph of 100 nodes needs .* lower n_landmarks"):
        rs.NormalizedCut(3, n_landmarks=100).fit(clusters(200))


def test_use_before_fitting_and_unknown_names_are_refused() -> None:
    cut = rs.NormalizedCut(3)
    with pytest.raises(InvalidInputError, match="not fitted"):
        cut.transform("features", clusters(5))
    cut.fit(clusters(30))
    with pytest.raises(UnknownNameError, match=r"no set is called 'dino'.* 'features'"):
        cut["dino"]
    with pytest.raises(InvalidInputError, match=r"X has 4 columns; .* fitted on 12"):
        cut.transform("features", clusters(5)[:, :4])
