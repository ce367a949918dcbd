import pytest
import torch

from relspace.embedding import components
from relspace.embedding.components import leading_components
from relspace.kernels import rbf_affinity, squared_distances


def a_graph(kind: str, dtype: torch.dtype) -> torch.Tensor:
    """Graphs whose leading eigenvalues are apart, equal, or as good as equal."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(60, 8, generator=generator, dtype=torch.float64).to(dtype)
    if kind == "connected":
        return rbf_affinity(points, density=0.2)
    if kind == "in parts":
        return torch.block_diag(*[torch.ones(10, 10, dtype=dtype)] * 6)
    # Four copies of points so far apart that every one is nearly a part of its own.
    copies = torch.cat([points] * 4)
    return torch.exp(-squared_distances(copies, copies) / (2 * 0.3**2))


KINDS = ("connected", "in parts", "nearly in parts")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [3, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_components_are_leading_and_none_is_constant(kind: str, k: int, dtype: torch.dtype) -> None:
    weights = a_graph(kind, dtype)
    values, vectors = leading_components(weights, k)
    exact = weights.double()
    degrees = exact.sum(1)
    walk = exact / degrees.sqrt()[:, None] / degrees.sqrt()
    rounding = 100 * torch.finfo(dtype).eps
    expected = torch.linalg.eigvalsh(walk).flip(0)[1 : k + 1]
    torch.testing.assert_close(values.double(), expected, rtol=0, atol=rounding)
    # Orthonormal where nodes weigh by their degree, to the constant vector too.
    weight = degrees / degrees.sum()
    products = vectors.double().T @ (weight[:, None] * vectors.double())
    torch.testing.assert_close(products, torch.eye(k, dtype=torch.float64), rtol=0, atol=rounding)
    assert float((weight @ vectors.double()).abs().max()) < rounding


def test_what_an_iteration_does_not_find_is_decomposed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = a_graph("connected", torch.float64)
    values, vectors = leading_components(weights, 5)
    whole = components._all_at_once
    asked = []

    def noted(*given: object) -> object:
        asked.append(given)
        return whole(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(components, "_RESTARTS", 1)
    monkeypatch.setattr(components, "_all_at_once", noted)
    same_values, same_vectors = leading_components(weights, 5)
    assert asked
    torch.testing.assert_close(same_values, values, rtol=0, atol=1e-10)
    torch.testing.assert_close(same_vectors, vectors, rtol=0, atol=1e-8)
