"""Nothing mixes devices, and everything is where it should be: on a GPU that is simulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.generators.simulated_gpu import GPU, MEMORY, MixedDevicesError, OnGpu, SimulatedGpu

import relspace as rs
from relspace.features import FeatureSet, scan
from relspace.rows.formats.memory import ArrayRows
from relspace.space.aligner import RelativeRows

X = torch.randn(120, 10, generator=torch.Generator().manual_seed(0))
Y = torch.randn(120, 7, generator=torch.Generator().manual_seed(1))


class Stream:
    """A stream that has always done everything."""

    def __init__(self, device: object = None) -> None:
        self.device = device

    def record_event(self) -> Stream:
        return self

    def wait_event(self, event: object) -> None:
        """There is nothing to wait for."""

    def wait_stream(self, stream: object) -> None:
        """There is nothing to wait for."""

    def synchronize(self) -> None:
        """There is nothing to wait for."""


class Pool(ThreadPoolExecutor):
    """Threads in which the GPU is simulated too."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        def simulated() -> Any:
            with SimulatedGpu():
                return call(*args, **kwargs)

        return super().submit(simulated)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    @contextmanager
    def stream(one: Stream) -> Iterator[None]:
        yield

    monkeypatch.setattr("torch.cuda.Stream", Stream)
    monkeypatch.setattr("torch.cuda.stream", stream)
    monkeypatch.setattr("torch.cuda.current_stream", Stream)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device=None: (2**30, 2**31))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda device=None: 0)
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda device=None: 0)
    monkeypatch.setattr("relspace._core.threads.ThreadPoolExecutor", Pool)
    with SimulatedGpu():
        yield


def there(tensor: torch.Tensor) -> torch.Tensor:
    moved = tensor.to(GPU)
    assert isinstance(moved, OnGpu)
    return moved


def same(found: object, expected: object, tolerance: float = 1e-5) -> None:
    """Values are equal, wherever they are."""
    found, expected = (torch.as_tensor(one).cpu() for one in (found, expected))
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=1e-4, equal_nan=True)


def test_the_simulation_refuses_what_cuda_does(gpu: None) -> None:
    x = there(X)
    assert x.device == GPU == (x @ x.T).device == torch.zeros(3, device="cuda").device
    assert x.cpu().device.type == "cpu"
    for mixes in (
        lambda: x + X,
        lambda: torch.cat([x, X]),
        lambda: X[there(torch.arange(3))],
        lambda: x.numpy(),
        lambda: torch.rand(3, device=GPU, generator=torch.Generator()),
        lambda: torch.mm(x, X.T),
    ):
        with pytest.raises(MixedDevicesError):
            mixes()
    x[torch.arange(3)] = 0.0
    assert float(x[:3].sum()) == 0.0
    assert isinstance(x.topk(2, dim=1).indices, OnGpu)


KERNELS: dict[str, Callable[[torch.Tensor], Any]] = {
    "affinity": lambda x: rs.rbf_affinity(x),
    "affinity of two": lambda x: rs.rbf_affinity(x, x[:30] + 0.1),
    "cosine affinity": lambda x: rs.cosine_affinity(x),
    "distances": lambda x: rs.kernels.squared_distances(x),
    "bandwidth": lambda x: rs.solve_bandwidth(x).sigma,
    "sampled bandwidth": lambda x: rs.solve_bandwidth(x, max_items=80, tolerance=0.5).sigma,
}


@pytest.mark.parametrize("name", list(KERNELS))
def test_kernels_stay_on_their_device(gpu: None, name: str) -> None:
    found = KERNELS[name](there(X))
    assert isinstance(found, float | OnGpu)
    same(found, KERNELS[name](X))


@pytest.mark.parametrize(
    "measure", list(map(rs.measures.get, rs.measures.names())), ids=rs.measures.names()
)
def test_measures_take_features_on_a_gpu(gpu: None, measure: Any) -> None:
    assert measure(there(X), there(Y)) == pytest.approx(measure(X, Y), abs=1e-5)


def test_comparisons_take_features_on_a_gpu(gpu: None) -> None:
    for measure in ("affinity", "cka", "rsa", "mutual_neighbors"):
        found, expected = (
            rs.compare(x, y, measure=measure, n_permutations=9, n_bootstraps=5)
            for x, y in ((there(X), there(Y)), (X, Y))
        )
        assert found.value == pytest.approx(expected.value, abs=1e-5)
        assert found.p_value == expected.p_value
        np.testing.assert_allclose(found.null, expected.null, atol=1e-5)
    layers = {"in": X, "out": X.tanh()}, {"all": Y}
    on_gpu = [{name: there(one) for name, one in model.items()} for model in layers]
    found, expected = (
        rs.compare_layers(*pair, measure="cka", n_permutations=9) for pair in (on_gpu, layers)
    )
    np.testing.assert_allclose(found.values, expected.values, atol=1e-5)


SETTINGS = [
    {},
    {"normalize": "none", "standardize": "none"},
    {"normalize": "zscore+unit", "standardize": "columns"},
    {"normalize": "center", "standardize": "half-whiten"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_tokens_anywhere_meet_landmarks_on_a_gpu(
    gpu: None, tmp_path: Path, settings: dict[str, str], dtype: torch.dtype
) -> None:
    given = X.to(dtype)
    aligner = rs.Aligner(**settings).fit(given[:40])
    expected = aligner.transform(given)
    moved = aligner.to("cuda")
    assert moved.device == GPU
    assert aligner.device.type == "cpu"
    np.save(tmp_path / "x.npy", given.numpy())
    tolerance = 2e-3 if dtype == torch.float16 else 1e-5
    on_gpu = moved.transform(there(given), memory_budget=20_000)
    assert isinstance(on_gpu, OnGpu)
    own = torch.full((120,), -1)
    own[:40] = torch.arange(40)
    for found in (
        on_gpu,
        moved.transform(given, memory_budget=20_000),
        torch.from_numpy(moved.transform(given.numpy())),
        moved.transform(tmp_path / "x.npy", memory_budget=20_000),
        moved.transform([given[:50], given[50:]], memory_budget=20_000),
        moved.transform(tmp_path / "x.npy", out=tmp_path / "out.zarr").read(0, 120),
    ):
        assert found.dtype == dtype
        same(found.double(), expected.double(), tolerance)
    found = RelativeRows(moved, own).row_map().collect(ArrayRows(given), memory_budget=20_000)
    same(found.double(), RelativeRows(aligner, own)(given).double(), tolerance)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("n_features", [16, 200])
@pytest.mark.parametrize("where", ["memory", "file", "device"])
def test_a_budget_is_kept_to_on_the_device(
    gpu: None, tmp_path: Path, settings: dict[str, str], n_features: int, where: str
) -> None:
    budget, n, m = 2**20, 6000, 100
    tokens = torch.randn(n, n_features, generator=torch.Generator().manual_seed(0))
    moved = rs.Aligner(**settings).fit(tokens[:m]).to("cuda")
    np.save(tmp_path / "x.npy", tokens.numpy())
    given: Any = {"memory": tokens, "file": tmp_path / "x.npy", "device": there(tokens)}[where]
    before = MEMORY.peak = MEMORY.allocated
    result = moved.transform(given, memory_budget=budget)
    held = result.nbytes if where == "device" else 0
    taken = MEMORY.peak - before - held
    assert 0.05 * budget < taken <= budget


def test_a_space_on_a_gpu_answers_as_one_in_memory(gpu: None, tmp_path: Path) -> None:
    space = rs.align({"a": X, "b": Y}, landmarks=50)
    moved = space.to("cuda")
    assert isinstance(moved["a"], OnGpu)
    for ask in (
        lambda one: one["b"],
        lambda one: one.distances("a", "b"),
        lambda one: one.pairwise("a", "b"),
        lambda one: one.chance_distance("a", "b"),
        lambda one: one.match("a", "b").accuracy,
        lambda one: one.match("a", "b", items=range(50, 120)).distances,
    ):
        same(ask(moved), ask(space))
    assert moved.summary()["pairs"][0] == pytest.approx(space.summary()["pairs"][0], abs=1e-5)
    from_gpu = rs.align({"a": there(X), "b": there(Y)}, landmarks=50)
    same(from_gpu.distances("a", "b"), space.distances("a", "b"))


def test_a_spatial_space_on_a_gpu(gpu: None) -> None:
    maps = torch.randn(5, 6, 6, 8, generator=torch.Generator().manual_seed(0))
    features = FeatureSet.from_arrays({"maps": maps}, layout="bhwc")
    space = rs.align({"a": features, "b": features.pool((3, 3))})
    moved = space.to("cuda")
    for ask in (
        lambda one: one["a"],
        lambda one: one.distances("a", "b"),
        lambda one: one.chance_distance("a", "b"),
        lambda one: one.match("a", "b").accuracy,
        lambda one: one.match("a", "b", images=[0, 2, 3]).distances,
        lambda one: one.transform("a", features),
    ):
        same(ask(moved), ask(space))


@pytest.mark.parametrize("n_landmarks", [60, 4096])
def test_embeddings_and_colours_on_a_gpu(gpu: None, tmp_path: Path, n_landmarks: int) -> None:
    sets = {"a": X, "b": X.flip(0) + 0.1}
    cut = rs.NormalizedCut(4, n_landmarks=n_landmarks).fit(sets)
    coloring = rs.Coloring().fit(cut)
    on_device = {name: there(tokens) for name, tokens in sets.items()}
    moved, colored = cut.to("cuda"), coloring.to("cuda")
    np.save(tmp_path / "x.npy", X.numpy())
    expected = cut.transform("a", X)
    same(moved["a"], cut["a"])
    same(moved.transform("a", X), expected, 1e-4)
    same(moved.transform("a", there(X)), expected, 1e-4)
    same(moved.transform("a", tmp_path / "x.npy", memory_budget=10**6), expected, 1e-4)
    out = moved.transform("a", tmp_path / "x.npy", out=tmp_path / "cut.zarr")
    same(out.read(0, 120), expected, 1e-4)
    same(colored.transform(expected), coloring.transform(expected))
    same(colored.transform(scan(tmp_path / "cut.zarr")), coloring.transform(expected), 1e-3)
    on_gpu = rs.NormalizedCut(4, n_landmarks=n_landmarks).fit(on_device)
    same(on_gpu["a"].abs(), cut["a"].abs(), 1e-3)
    assert isinstance(rs.colors(on_gpu)["a"], OnGpu)
    assert rs.kway(on_gpu.embedding_, 3)["a"].shape == (120,)
    written = rs.NormalizedCut(4, n_landmarks=n_landmarks).fit(
        on_device,
        out={name: tmp_path / f"{name}.zarr" for name in sets},
    )
    same(written["a"].read(0, 120).abs(), cut["a"].abs(), 1e-3)
    rs.colors(written, out={name: tmp_path / f"{name}-colors.zarr" for name in sets})
