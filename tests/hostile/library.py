"""Hostile calls of every public function: features, parameters, items, mappings, files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.hostile.cases import Case
from tests.hostile.inputs import BASE, REFUSED, RIGHT, N, Right

import relspace as rs
from relspace.features import FeatureSet
from relspace.features.positions import TokenGrid
from relspace.resampling import bootstrap, p_value, permutation_null, split_halves

OTHER = BASE @ np.random.default_rng(2).normal(size=(BASE.shape[1], 5)) + 0.3
NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True)
class Taker:
    """A function that takes features: what it makes of them, and what it calls them.

    Attributes
    ----------
    call : callable
        Makes an array of features that does not change with their scale or shift, as far as
        ``invariant`` says.
    named : str
        What a refusal calls the features.
    invariant : str
        "shift and scale", "scale", or "".
    without : sequence of str
        Kinds of input that mean something else here.
    """

    call: Callable[[Any, Path], object]
    named: str
    invariant: str = "shift and scale"
    without: Sequence[str] = ()


def _aligner() -> rs.Aligner:
    return rs.Aligner().fit(BASE)


def _cut() -> rs.NormalizedCut:
    return rs.NormalizedCut(3, density=0.2).fit(BASE)


def _coloring() -> rs.Coloring:
    return rs.Coloring().fit(rs.NormalizedCut(BASE.shape[1], density=0.2).fit(OTHER))


def _absolute(rows: object) -> np.ndarray:
    return np.abs(np.asarray(torch.as_tensor(rows).detach()))


TAKERS: dict[str, Taker] = {
    "rbf_affinity": Taker(lambda X, _: rs.rbf_affinity(X), "X"),
    "rbf_affinity, second": Taker(
        lambda X, _: rs.rbf_affinity(BASE, X, sigma=2.0), "Y", "", without=("None",)
    ),
    "cosine_affinity": Taker(lambda X, _: rs.cosine_affinity(X), "X", "scale"),
    "squared_distances": Taker(lambda X, _: rs.squared_distances(X), "X", ""),
    "solve_bandwidth": Taker(lambda X, _: rs.rbf_affinity(X, sigma=rs.solve_bandwidth(X)), "X"),
    "compare": Taker(lambda X, _: rs.compare(X, OTHER, measure="cka").value, "X"),
    "compare, second": Taker(lambda X, _: rs.compare(OTHER, X).value, "Y"),
    "compare_layers": Taker(
        lambda X, _: rs.compare_layers({"l": X, "m": OTHER}, {"o": OTHER}, n_permutations=0).values,
        "l",
    ),
    "compare_models": Taker(
        lambda X, _: (
            rs.compare_models(
                {"a": {"l": X}, "b": {"m": OTHER}, "c": {"n": OTHER}}, n_permutations=0
            ).values
        ),
        "l",
    ),
    "align": Taker(
        lambda X, _: rs.align({"set": X, "other": OTHER}).distances("other", "set"), "set"
    ),
    "Aligner.fit": Taker(lambda X, _: rs.rbf_affinity(rs.Aligner().fit(X).landmarks_), "landmarks"),
    "Aligner.transform": Taker(lambda X, _: _aligner().transform(X), "X", ""),
    "Aligner.affinity": Taker(lambda X, _: _aligner().affinity(X), "X", ""),
    "ItemSpace.transform": Taker(
        lambda X, _: rs.align({"a": BASE, "b": OTHER}).transform("a", X), "X", ""
    ),
    "NormalizedCut.fit": Taker(
        lambda X, _: _absolute(rs.NormalizedCut(3, density=0.2).fit({"set": X})["set"]), "set"
    ),
    "NormalizedCut.transform": Taker(lambda X, _: _cut().transform("features", X), "X", ""),
    "Coloring.transform": Taker(lambda X, _: _coloring().transform(X), "X", ""),
    "kway": Taker(lambda X, _: rs.kway({"set": X}, 3)["set"], "set", ""),
    "FeatureSet.from_arrays": Taker(
        lambda X, _: rs.rbf_affinity(FeatureSet.from_arrays({"l": X}).tokens()),
        "l",
        without=("three axes", "three axes, tensor"),
    ),
}


def _is_tried(taker: Taker, right: Right) -> bool:
    wanted = {"": "", "width": "shift"}.get(right.moved, right.moved)
    return wanted in taker.invariant


def feature_cases() -> Iterator[Case]:
    """Every kind of hostile features, given to every function that takes features."""
    for area, taker in TAKERS.items():
        for name, one in REFUSED.items():
            if name not in taker.without:
                yield Case(name, area, taker.call, one.make, [taker.named, *one.words])
        for name, right in RIGHT.items():
            if _is_tried(taker, right):

                def reference(taker: Taker = taker, right: Right = right) -> object:
                    return taker.call(right.same_as(), Path())

                yield Case(name, area, taker.call, right.make, (), reference, right.tolerance)


def measure_cases() -> Iterator[Case]:
    """Features of every scale and whole numbers at every offset, by every measure."""
    for measure in map(rs.measures.get, rs.measures.names()):
        for name, right in RIGHT.items():
            if not right.moved and right.tolerance <= 2e-5 and "int" not in name:
                continue

            def call(X: Any, _: Path, measure: str = measure.name) -> float:
                return rs.compare(X, OTHER, measure=measure).value

            def reference(right: Right = right, call: Any = call) -> float:
                return float(call(right.same_as(), Path()))

            if right.tolerance > 1e-3 or not _is_invariant(measure, right.moved):
                continue
            yield Case(name, f"compare by {measure.name}", call, right.make, (), reference, 1e-4)


def _is_invariant(measure: rs.measures.Measure, moved: str) -> bool:
    """Whether a measure promises the same value although all the features are moved so."""
    # All features of all items are moved by one number, which is a shift of either kind.
    wanted = {"scale": {"scale"}, "shift": {"shift", "item shift"}}
    return not moved or bool(wanted.get(moved, set()) & set(measure.invariances))


#: Values that are out of range, by what a parameter is.
_FRACTION = [0, 1, -0.1, 1.5, NAN, INF, "dense", True, [0.1], 1j]
_COUNT = [-1, 1.5, NAN, "10", True, [3], 1j, 2**63, 10**30, 10**400]
#: Numbers of resamples that no computer draws.
_RESAMPLES = [10**10, 10**15, 10**18, *_COUNT]
_SEED = [-1, 2**63, 10**400, 1.5, "0", None, True, [0]]
_BYTES = [0, -1, 1.5, "1 gross", "", True]
_NAME = ["", "unknown", "CKA ", 3, None, ["cka"], b"cka"]
#: What is neither sides nor channels.
_NO_TUPLE = [NAN, torch.tensor(3.0), "x", np.array([3]), 8.5, ("x", "y"), ([1], [2])]
_POSITIVE = [0, -1, NAN, INF, "wide", True, [1.0]]


def _space() -> rs.ItemSpace:
    return rs.align({"a": BASE, "b": OTHER}, landmarks=10)  # type: ignore[return-value]


def _tokens(n_images: int = 4) -> rs.TokenSpace:
    maps = torch.randn(n_images, 4, 4, 5, generator=torch.Generator().manual_seed(0))
    fine = FeatureSet.from_arrays({"l": maps}, layout="bhwc")
    found = rs.align({"fine": fine, "coarse": fine.pool((2, 2))}, landmarks=20)
    assert isinstance(found, rs.TokenSpace)
    return found


IMAGES = np.random.default_rng(3).integers(0, 255, (4, 8, 8, 3)).astype(np.uint8)


def _model() -> rs.ModuleModel:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 4, 4), torch.nn.ReLU())
    return rs.ModuleModel(
        net, ["0"], layout="bchw", preprocessing=rs.Preprocessing(size=(8, 8)), device="cpu"
    )


def _extract(folder: Path, items: Any = IMAGES, **options: Any) -> object:
    options.setdefault("device", "cpu")
    return rs.extract(_model(), items, options.pop("out", folder / "s.zarr"), **options)


def _maps() -> FeatureSet:
    maps = torch.randn(4, 4, 4, 5, generator=torch.Generator().manual_seed(0))
    return FeatureSet.from_arrays({"l": maps}, layout="bhwc", ids=["a", "b", "c", "d"])


_LAYERS = {"l": BASE, "m": OTHER}
_MODELS = {"a": _LAYERS, "b": _LAYERS, "c": _LAYERS}


def _repeated_array(one: np.ndarray) -> np.ndarray:
    return np.broadcast_to(one, (3, 10**12))


def _repeated_tensor(one: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(one).expand(3, 10**12)


#: A function with one parameter open, and values that it must refuse by the parameter's name.
PARAMETERS: dict[str, tuple[str, Callable[[Any, Path], object], Sequence[Any]]] = {
    "rbf_affinity density": ("density", lambda v, _: rs.rbf_affinity(BASE, density=v), _FRACTION),
    "rbf_affinity sigma": ("sigma", lambda v, _: rs.rbf_affinity(BASE, sigma=v), _POSITIVE),
    "cosine_affinity density": (
        "density",
        lambda v, _: rs.cosine_affinity(BASE, density=v),
        _FRACTION,
    ),
    "cosine_affinity sigma": ("sigma", lambda v, _: rs.cosine_affinity(BASE, sigma=v), _POSITIVE),
    "solve_bandwidth density": (
        "density",
        lambda v, _: rs.solve_bandwidth(BASE, density=v),
        _FRACTION,
    ),
    "solve_bandwidth tolerance": (
        "tolerance",
        lambda v, _: rs.solve_bandwidth(BASE, tolerance=v),
        _FRACTION,
    ),
    "solve_bandwidth max_items": (
        "max_items",
        lambda v, _: rs.solve_bandwidth(BASE, max_items=v),
        [0, 1, *_COUNT],
    ),
    "solve_bandwidth seed": (
        "random_state",
        lambda v, _: rs.solve_bandwidth(BASE, random_state=v),
        _SEED,
    ),
    "choose_landmarks items": (
        "n_items",
        lambda v, _: rs.choose_landmarks(v, 3),
        [0, None, *_COUNT],
    ),
    "choose_landmarks landmarks": (
        "n_landmarks",
        lambda v, _: rs.choose_landmarks(10, v),
        [0, None, *_COUNT],
    ),
    "choose_landmarks of all": (
        "landmarks needs",
        lambda v, _: rs.choose_landmarks(v, v),
        [10**12, 10**18],
    ),
    "choose_landmarks seed": (
        "random_state",
        lambda v, _: rs.choose_landmarks(10, 3, random_state=v),
        _SEED,
    ),
    "compare measure": ("measure", lambda v, _: rs.compare(BASE, OTHER, measure=v), _NAME),
    "compare permutations": (
        "n_permutations",
        lambda v, _: rs.compare(BASE, OTHER, n_permutations=v),
        [None, *_RESAMPLES],
    ),
    "compare bootstraps": (
        "n_bootstraps",
        lambda v, _: rs.compare(BASE, OTHER, n_bootstraps=v),
        [None, *_RESAMPLES],
    ),
    "compare max_items": (
        "max_items",
        lambda v, _: rs.compare(BASE, OTHER, max_items=v),
        [0, 1, *_COUNT],
    ),
    "compare memory_budget": (
        "memory_budget",
        lambda v, _: rs.compare(BASE, OTHER, memory_budget=v),
        _BYTES,
    ),
    "compare seed": (
        "random_state",
        lambda v, _: rs.compare(BASE, OTHER, random_state=v),
        _SEED,
    ),
    "compare names": (
        "names",
        lambda v, _: rs.compare(BASE, OTHER, names=v),
        [[], ["a"], ["a", "a"], "ab", 5, NAN, [1, 2], torch.tensor(3.0), np.array([3])],
    ),
    "compare groups": (
        "group",
        lambda v, _: rs.compare(BASE, OTHER, groups=v, n_permutations=9),
        [[], [1, 2], "abc", 5, [None] * N, np.zeros((N, 2)), [NAN] * N],
    ),
    "compare ids": (
        "ids",
        lambda v, _: rs.compare(BASE, OTHER, ids=v),
        [[], ["a"] * N, list(range(N - 1)), "abc", 5, {"Z": []}, [1.5] * N, [None] * N],
    ),
    "compare_layers measure": (
        "measure",
        lambda v, _: rs.compare_layers(_LAYERS, _LAYERS, measure=v),
        _NAME,
    ),
    "compare_layers permutations": (
        "n_permutations",
        lambda v, _: rs.compare_layers(_LAYERS, _LAYERS, n_permutations=v),
        [None, *_RESAMPLES],
    ),
    "compare_layers names": (
        "names",
        lambda v, _: rs.compare_layers(_LAYERS, _LAYERS, names=v, n_permutations=0),
        [[], ["a"], ["a", "a"], ["a", "b", "c"], "ab", 5, [1, 2], ["", "b"]],
    ),
    "compare_layers seed": (
        "random_state",
        lambda v, _: rs.compare_layers(_LAYERS, _LAYERS, random_state=v),
        _SEED,
    ),
    "compare_models measure": (
        "measure",
        lambda v, _: rs.compare_models(_MODELS, measure=v),
        _NAME,
    ),
    "compare_models permutations": (
        "n_permutations",
        lambda v, _: rs.compare_models(_MODELS, n_permutations=v),
        [None, *_RESAMPLES],
    ),
    "compare_models seed": (
        "random_state",
        lambda v, _: rs.compare_models(_MODELS, random_state=v),
        _SEED,
    ),
    "align density": (
        "density",
        lambda v, _: rs.align({"a": BASE, "b": OTHER}, density=v),
        _FRACTION,
    ),
    "align normalize": (
        "normalize",
        lambda v, _: rs.align({"a": BASE, "b": OTHER}, normalize=v),
        ["", "unknown", 3, ["unit"], True],
    ),
    "align standardize": (
        "standardize",
        lambda v, _: rs.align({"a": BASE, "b": OTHER}, standardize=v),
        ["", "unknown", 3, ["none"], True],
    ),
    "align landmarks": (
        "landmarks",
        lambda v, _: rs.align({"a": BASE, "b": OTHER}, landmarks=v),
        [0, 1, 2, *_COUNT, None, [], [0, 1], [0, 0, 1], [0, 1, N], [-1, 0, 1], [0.5, 1.5, 2.5]],
    ),
    "align seed": (
        "random_state",
        lambda v, _: rs.align({"a": BASE, "b": OTHER}, random_state=v),
        _SEED,
    ),
    "align memory_budget": (
        "memory_budget",
        lambda v, _: rs.align({"a": BASE, "b": OTHER}, memory_budget=v),
        _BYTES,
    ),
    "align layer": (
        "layer",
        lambda v, _: rs.align({"a": BASE, "b": OTHER}, layer=v),
        ["", "last", 3, {"a": "l"}],
    ),
    "align ids": (
        "ids",
        lambda v, _: rs.align({"a": BASE, "b": OTHER}, ids=v),
        [[], ["x"] * N, list(range(N - 1)), 5, {"Z": []}, [1.5] * N, ["x", 1] * (N // 2)],
    ),
    "align sets": (
        "sets",
        lambda v, _: rs.align(v),
        [None, {}, [], BASE, {1: BASE, 2: OTHER}, {"": BASE, "b": OTHER}, "ab", 5],
    ),
    "Aligner density": ("density", lambda v, _: rs.Aligner(density=v).fit(BASE), _FRACTION),
    "Aligner normalize": (
        "normalize",
        lambda v, _: rs.Aligner(normalize=v).fit(BASE),
        ["", "unknown", 3, None],
    ),
    "Aligner standardize": (
        "standardize",
        lambda v, _: rs.Aligner(standardize=v).fit(BASE),
        ["", "unknown", 3, None],
    ),
    "Aligner device": (
        "device",
        lambda v, _: _aligner().to(v),
        ["", "gpu", "cuda:99", 3.5, None],
    ),
    "space match neighbors": (
        "n_neighbors",
        lambda v, _: _space().match("a", "b", v),
        [0, N, None, *_COUNT],
    ),
    "space match items": (
        "items",
        lambda v, _: _space().match("a", "b", items=v),
        [[0, 0], [N], [-1], "ab", [0.5], 3, [], [True, False]],
    ),
    "space set": (
        "no set is called",
        lambda v, _: _space()[v],
        ["c", "", 0, None, ("a",), np.array([3]), ["a"]],
    ),
    "space distances": (
        "no set is called",
        lambda v, _: _space().distances("a", v),
        ["c", "", None, np.array([3]), ["a"]],
    ),
    "space match sets": (
        "no set is called",
        lambda v, _: _space().match(v, "b"),
        ["c", None, np.array([3]), ["a"]],
    ),
    "space chance sets": (
        "no set is called",
        lambda v, _: _space().chance_distance("a", v),
        ["c", None, np.array([3]), ["a"]],
    ),
    "tokens distances": (
        "no set is called",
        lambda v, _: _tokens().distances(v, "fine"),
        ["c", None, np.array([3]), ["fine"]],
    ),
    "tokens match sets": (
        "no set is called",
        lambda v, _: _tokens().match("fine", v),
        ["c", None, np.array([3]), ["fine"]],
    ),
    "tokens chance sets": (
        "no set is called",
        lambda v, _: _tokens().chance_distance(v, "fine"),
        ["c", None, np.array([3]), ["fine"]],
    ),
    "space chance seed": (
        "random_state",
        lambda v, _: _space().chance_distance("a", "b", random_state=v),
        _SEED,
    ),
    "space plot": ("n_items", lambda v, _: _space().plot(n_items=v), [0, None, *_COUNT]),
    "space device": ("device", lambda v, _: _space().to(v), ["", "gpu", "cuda:99", None]),
    "tokens match neighbors": (
        "n_neighbors",
        lambda v, _: _tokens().match("fine", "coarse", v),
        [0, 16, None, *_COUNT],
    ),
    "tokens match images": (
        "images",
        lambda v, _: _tokens().match("fine", "coarse", images=v),
        [[0, 0, 1], [9], [-1], "ab", [0.5], [0, 1], []],
    ),
    "tokens of one image": (
        "image",
        lambda v, _: _tokens(v).chance_distance("fine", "coarse"),
        [1, 2],
    ),
    "NormalizedCut components": (
        "n_components",
        lambda v, _: rs.NormalizedCut(v).fit(BASE),
        [0, N, None, *_COUNT],
    ),
    "NormalizedCut density": (
        "density",
        lambda v, _: rs.NormalizedCut(3, density=v).fit(BASE),
        _FRACTION,
    ),
    "NormalizedCut within_weight": (
        "within_weight",
        lambda v, _: rs.NormalizedCut(3, within_weight=v).fit(BASE),
        [*_POSITIVE, 5e-324, 1e-300, 1e-7, 1e7, 1e40, 10**400],
    ),
    "NormalizedCut landmarks": (
        "n_landmarks",
        lambda v, _: rs.NormalizedCut(3, n_landmarks=v).fit(BASE),
        [0, 2, None, *_COUNT],
    ),
    "NormalizedCut seed": (
        "random_state",
        lambda v, _: rs.NormalizedCut(3, random_state=v).fit(BASE),
        _SEED,
    ),
    "NormalizedCut memory_budget": (
        "memory_budget",
        lambda v, _: rs.NormalizedCut(3).fit(BASE, memory_budget=v),
        _BYTES,
    ),
    "NormalizedCut set": (
        "no set is called",
        lambda v, _: _cut()[v],
        ["c", "", 0, None, np.array(["features"]), ["features"]],
    ),
    "Coloring method": (
        "method",
        lambda v, _: rs.Coloring(v).fit(_cut()),
        ["", "rainbow", 3, None],
    ),
    "Coloring quantile": (
        "quantile",
        lambda v, _: rs.Coloring(quantile=v).fit(_cut()),
        [-0.1, 0.5, NAN, INF, "x", None, True],
    ),
    "Coloring seed": (
        "random_state",
        lambda v, _: rs.Coloring(random_state=v).fit(_cut()),
        _SEED,
    ),
    "Coloring cut": ("cut", lambda v, _: rs.Coloring().fit(v), [None, BASE, {"a": BASE}, "cut"]),
    "colors cut": ("cut", lambda v, _: rs.colors(v), [None, BASE, {"a": BASE}, "cut"]),
    "kway clusters": (
        "n_clusters",
        lambda v, _: rs.kway({"a": BASE}, v),
        [0, 1, 8, None, *_COUNT],
    ),
    "kway embedding": (
        "embedding",
        lambda v, _: rs.kway(v, 3),
        [None, BASE, [BASE], "a", 5],
    ),
    "kway seed": ("random_state", lambda v, _: rs.kway({"a": BASE}, 3, random_state=v), _SEED),
    "report of": (
        "of",
        lambda v, folder: rs.report(v, folder / "p.html"),
        [None, {}, BASE, {"a": BASE}, {"a": BASE, "b": OTHER}, "space", 5, [BASE]],
    ),
    "report out": (
        "out",
        lambda v, _: rs.report(_space(), v, n_permutations=0),
        ["", "p.pdf", "page", 5, "a\0b.html"],
    ),
    "report images": (
        "n_images",
        lambda v, folder: rs.report(_tokens(), folder / "p.html", n_images=v, n_permutations=0),
        [0, None, *_COUNT],
    ),
    "report permutations": (
        "n_permutations",
        lambda v, folder: rs.report(_space(), folder / "p.html", n_permutations=v),
        [None, *_RESAMPLES],
    ),
    "report seed": (
        "random_state",
        lambda v, folder: rs.report(_space(), folder / "p.html", random_state=v),
        _SEED,
    ),
    "report title": (
        "title",
        lambda v, folder: rs.report(_space(), folder / "p.html", title=v, n_permutations=0),
        [5, b"title", ["title"]],
    ),
    "Output dtype": (
        "dtype",
        lambda v, folder: _aligner().transform(BASE, out=rs.Output(folder / "o.npy", dtype=v)),
        ["", "int8", "float8", 3, torch.float32],
    ),
    "Output chunk_rows": (
        "chunk_rows",
        lambda v, folder: _aligner().transform(BASE, out=rs.Output(folder / "o.npy", chunk_rows=v)),
        [0, *_COUNT],
    ),
    "Output memory_budget": (
        "memory_budget",
        lambda v, folder: _aligner().transform(
            BASE, out=rs.Output(folder / "o.npy", memory_budget=v)
        ),
        _BYTES,
    ),
    "Output resume": (
        "resume",
        lambda v, folder: _aligner().transform(BASE, out=rs.Output(folder / "o.npy", resume=v)),
        ["", "always", 3, None],
    ),
    "measures.get": ("measure", lambda v, _: rs.measures.get(v), _NAME),
    "permutation_null n": (
        "n_permutations",
        lambda v, _: permutation_null(lambda order: 0.0, 10, v),
        [None, *_RESAMPLES],
    ),
    "permutation_null items": (
        "n_items",
        lambda v, _: permutation_null(lambda order: 0.0, v, 9),
        [0, None, 10**12, 10**18, *_COUNT],
    ),
    "bootstrap items": (
        "n_items",
        lambda v, _: bootstrap(lambda order: 0.0, v, 9),
        [0, None, 10**12, 10**18, *_COUNT],
    ),
    "split_halves features": (
        "n_features",
        lambda v, _: split_halves(lambda a, b: 0.0, v, 9),
        [None, 10**12, 10**18, *_COUNT],
    ),
    "bootstrap n": (
        "n_bootstraps",
        lambda v, _: bootstrap(lambda order: 0.0, 10, v),
        [None, *_RESAMPLES],
    ),
    "split_halves n": (
        "n_splits",
        lambda v, _: split_halves(lambda a, b: 0.0, 10, v),
        [0, None, *_RESAMPLES],
    ),
    "p_value null": ("null", lambda v, _: p_value(0.5, np.array(v)), [[NAN], [0.1, NAN]]),
    "extract model": (
        "model",
        lambda v, folder: rs.extract(v, IMAGES, folder / "s.zarr"),
        [None, 5, [], {}, b"model", torch.nn.ReLU()],
    ),
    "extract items": (
        "",
        lambda v, folder: _extract(folder, v),
        [None, 5, [], "gone", "gone/*.png", [None], [5], np.zeros((2, 8)), np.zeros((0, 8, 8, 3))],
    ),
    "extract out": (
        "",
        lambda v, _: _extract(Path(), out=v),
        ["", None, 5, "a\0b.zarr"],
    ),
    "extract layers": (
        "layer",
        lambda v, folder: _extract(folder, layers=v),
        ["gone", ["gone"], 5.5, [], "", [99], [-99], None, {"0": 1}],
    ),
    "extract batch_size": (
        "batch_size",
        lambda v, folder: _extract(folder, batch_size=v),
        [0, None, *_COUNT],
    ),
    "extract threads": (
        "n_threads",
        lambda v, folder: _extract(folder, n_threads=v),
        [0, *_COUNT],
    ),
    "extract store_dtype": (
        "store_dtype",
        lambda v, folder: _extract(folder, store_dtype=v),
        ["", "int8", "float64", 5, None],
    ),
    "extract on_error": (
        "on_error",
        lambda v, folder: _extract(folder, on_error=v),
        ["", "ignore", 5, None, True],
    ),
    "extract ids": (
        "id",
        lambda v, folder: _extract(folder, ids=v),
        [[], ["a"], ["a"] * 4, "abcd", 5, [None] * 4, ["a", 1, "b", 2]],
    ),
    "load_model": (
        "",
        lambda v, folder: rs.load_model(folder / v if v else v),
        ["gone", "", None],
    ),
    "Preprocessing size": (
        "size",
        lambda v, _: rs.Preprocessing(size=v),
        [(0, 8), (-1, 8), (8,), "8x8", (8, 8, 8), (8.5, 8), (NAN, 8), (True, 8), *_NO_TUPLE],
    ),
    "Preprocessing size that is not used": (
        "size",
        lambda v, _: rs.Preprocessing(fit="none", size=v),
        [None, (-1, 0), *_NO_TUPLE],
    ),
    "TokenGrid images": (
        "n_images",
        lambda v, _: TokenGrid.whole(2, 2, n_images=v),
        [0, None, 10**12, 10**18, *_COUNT],
    ),
    "Preprocessing crop": ("crop", lambda v, _: rs.Preprocessing(crop=v), _NO_TUPLE),
    "Preprocessing pad": ("pad", lambda v, _: rs.Preprocessing(pad=v), _NO_TUPLE),
    "Preprocessing mean": ("mean", lambda v, _: rs.Preprocessing(mean=v), _NO_TUPLE),
    "Preprocessing std": ("std", lambda v, _: rs.Preprocessing(std=v), [(0,), *_NO_TUPLE]),
    "Preprocessing factor": (
        "factor",
        lambda v, _: rs.Preprocessing(factor=v),
        [NAN, INF, None, "x", True, [1.0], np.array([3]), torch.tensor(1j)],
    ),
    "Preprocessing resample": (
        "resample",
        lambda v, _: rs.Preprocessing(resample=v),
        [-1, 6, *_NO_TUPLE],
    ),
    "Preprocessing at_size": (
        "image_size",
        lambda v, _: rs.Preprocessing().at_size(v),
        [0, (0, 8), *_NO_TUPLE],
    ),
    "FeatureSet layers": (
        "layers",
        lambda v, _: FeatureSet(v),
        [None, {}, "x", 5, NAN, {"a": BASE}, [BASE], {1: _maps()["l"]}],
    ),
    "FeatureSet vectors": (
        "vectors",
        lambda v, _: FeatureSet({"l": _maps()["l"]}, vectors=v),
        ["x", 5, {"a": BASE}],
    ),
    "FeatureSet layer": (
        "no layer",
        lambda v, _: _maps()[v],
        ["gone", "", 5, None, np.array([3]), ["l"]],
    ),
    "FeatureSet select": (
        "",
        lambda v, _: _maps().select(images=v),
        [["gone"], [9], [-9], [0.5], [], "gone", [None]],
    ),
    "FeatureSet pool": (
        "",
        lambda v, _: _maps().pool(v),
        ["max", "", 5, None, (0, 1), (2.5, 2), (2,)],
    ),
    "FeatureSet layout": (
        "layout",
        lambda v, _: FeatureSet.from_arrays({"l": IMAGES[..., 0]}, layout=v),
        ["", "hw", "nd", 5, None, "bchw"],
    ),
    "load_space": (
        "",
        lambda v, folder: rs.load_space(folder / v),
        ["gone.safetensors", "..", "gone/gone"],
    ),
    "load_space path": (
        "path",
        lambda v, _: rs.load_space(v),
        ["", NAN, b"x", None, 5, ["a"], "a\0b"],
    ),
    "open_features path": (
        "path",
        lambda v, _: rs.open_features(v),
        ["", NAN, b"x", None, 5, ["a"], "a\0b"],
    ),
    "NormalizedCut.load path": (
        "path",
        lambda v, _: rs.NormalizedCut.load(v),
        ["", NAN, b"x", None, 5],
    ),
    "squared_distances of repeats": (
        "X, whose rows or columns are repeated",
        lambda v, _: rs.squared_distances(v(np.ones((3, 1)))),
        [_repeated_array, _repeated_tensor],
    ),
    "squared_distances beyond float64": (
        "divide the features by a constant first",
        lambda v, _: rs.squared_distances(BASE * v),
        [1e200],
    ),
    "open_features": (
        "",
        lambda v, folder: rs.open_features(folder / v),
        ["gone.zarr", "gone", "gone/gone.zarr"],
    ),
}


def parameter_cases() -> Iterator[Case]:
    """Every parameter of every function, with values that are out of its range."""
    for area, (word, call, values) in PARAMETERS.items():
        for value in values:
            yield Case(_named(value), area, call, lambda value=value: value, [word] if word else [])


def _named(value: object) -> str:
    shown = " ".join(repr(value).split())
    return shown if len(shown) < 40 else shown[:36] + " ..."


def shape_cases() -> Iterator[Case]:
    """Sets of too few items, without spread, of coinciding items, and that don't fit together."""
    one_row, two_rows = BASE[:1], BASE[:2]
    constant = np.full_like(BASE, 3.7)
    few = np.repeat(BASE[:2], N // 2, axis=0)
    takers: dict[str, tuple[Callable[[Any, Path], object], str]] = {
        "rbf_affinity": (lambda X, _: rs.rbf_affinity(X), "X"),
        "solve_bandwidth": (lambda X, _: rs.solve_bandwidth(X), "X"),
        "align": (lambda X, _: rs.align({"set": X, "other": X}), "set"),
        "Aligner.fit": (lambda X, _: rs.Aligner().fit(X), "landmarks"),
        "NormalizedCut.fit": (lambda X, _: rs.NormalizedCut(2).fit({"set": X}), ""),
        "compare by cka": (lambda X, _: rs.compare(X, X, measure="cka"), ""),
        "compare by rsa": (lambda X, _: rs.compare(X, X, measure="rsa"), ""),
        "compare by affinity": (lambda X, _: rs.compare(X, X), ""),
        "compare by procrustes": (lambda X, _: rs.compare(X, X, measure="procrustes"), ""),
        "compare_layers": (
            lambda X, _: rs.compare_layers({"l": X}, {"m": X}, n_permutations=0),
            "",
        ),
    }
    inputs = {
        "one row": one_row,
        "two rows": two_rows,
        "constant": constant,
        "two different rows": few,
        "zeros": np.zeros_like(BASE),
    }
    for area, (call, _word) in takers.items():
        for name, given in inputs.items():
            if area.startswith("compare by") and name == "two different rows":
                continue
            yield Case(name, area, call, lambda given=given: given.copy(), [])
    pairs: dict[str, Callable[[Any, Path], object]] = {
        "compare": lambda X, _: rs.compare(X, OTHER),
        "align": lambda X, _: rs.align({"X": X, "Y": OTHER}),
        "compare_layers": lambda X, _: rs.compare_layers({"l": X}, {"m": OTHER}),
        "compare_models": lambda X, _: rs.compare_models({"a": {"l": X}, "b": {"m": OTHER}}),
    }
    for area, call in pairs.items():
        yield Case("fewer rows", area, call, lambda: BASE[:-1].copy(), ["23", "24"])
        yield Case("more rows", area, call, lambda: np.vstack([BASE, BASE]), ["48", "24"])
    widths: dict[str, Callable[[Any, Path], object]] = {
        "rbf_affinity": lambda X, _: rs.rbf_affinity(BASE, X),
        "squared_distances": lambda X, _: rs.squared_distances(BASE, X),
        "Aligner.transform": lambda X, _: _aligner().transform(X),
        "NormalizedCut.transform": lambda X, _: _cut().transform("features", X),
        "NormalizedCut.fit": lambda X, _: rs.NormalizedCut(2).fit({"a": BASE, "b": X}),
        "kway": lambda X, _: rs.kway({"a": BASE, "b": X}, 3),
        "Coloring.transform": lambda X, _: _coloring().transform(X),
    }
    for area, call in widths.items():
        yield Case("another width", area, call, lambda: OTHER.copy(), ["5", "6"])


def item_cases() -> Iterator[Case]:
    """Ids that are doubled, mixed, missing, or of other items."""
    strings, numbers = [f"i{n}" for n in range(N)], list(range(N))
    sets = {"a": BASE, "b": OTHER}
    tables: dict[str, tuple[Any, Sequence[str]]] = {
        "one id twice": ({"a": [*strings[:-1], "i0"], "b": strings}, ["i0"]),
        "strings and numbers": ({"a": strings, "b": numbers}, ["whole numbers", "strings"]),
        "mixed in one set": ({"a": [*strings[:-1], 5], "b": strings}, ["mix"]),
        "other items": ({"a": strings, "b": [f"j{n}" for n in range(N)]}, ["i0"]),
        "one other item": ({"a": strings, "b": [*strings[:-1], "new"]}, ["new", "i23"]),
        "too few": ({"a": strings[:-1], "b": strings}, ["23", "24"]),
        "only one set": ({"a": strings}, ["b"]),
        "an unknown set": ({"c": strings}, ["c"]),
        "nested": ({"a": [[1]] * N, "b": strings}, ["list"]),
        "two axes": ({"a": np.zeros((N, 2), int), "b": numbers}, ["(24, 2)"]),
        "numbers that are not whole": ({"a": [n + 0.5 for n in numbers], "b": numbers}, ["float"]),
        "bool": ({"a": [True] * N, "b": numbers}, ["bool"]),
    }
    for name, (ids, words) in tables.items():
        yield Case(
            name, "align, ids", lambda ids, _: rs.align(sets, ids=ids), lambda i=ids: i, words
        )
        renamed = {{"a": "X", "b": "Y"}.get(key, key): own for key, own in ids.items()}
        said = [{"b": "Y"}.get(word, word) for word in words]
        yield Case(
            name,
            "compare, ids",
            lambda ids, _: rs.compare(BASE, OTHER, ids=ids),
            lambda i=renamed: i,
            said,
        )


def mapping_cases() -> Iterator[Case]:
    """Layers and models that are no mappings, empty, or named by what is no text."""
    wrong: dict[str, Any] = {
        "None": None,
        "a number": 5,
        "a text": "layers",
        "an empty mapping": {},
        "a list of arrays": [BASE, OTHER],
        "names that are numbers": {1: BASE, 2: OTHER},
        "an empty name": {"": BASE},
        "None in it": {"l": None},
        "a text in it": {"l": "gone.npy"},
        "a mapping in it": {"l": {"m": {"n": BASE}}},
    }
    for name, given in wrong.items():
        # A layer without a name is the root of a PyTorch module.
        if name not in ("a list of arrays", "an empty name"):
            yield Case(
                name,
                "compare_layers, layers",
                lambda v, _: rs.compare_layers(v, _LAYERS, n_permutations=0),
                lambda given=given: given,
            )
        yield Case(
            name,
            "compare_models, models",
            lambda v, _: rs.compare_models(v, n_permutations=0),
            lambda given=given: given,
        )
        if name != "an empty name":
            yield Case(
                name,
                "FeatureSet.from_arrays, arrays",
                lambda v, _: FeatureSet.from_arrays(v),
                lambda given=given: given,
            )
        if name not in ("a list of arrays", "a number", "a text", "None"):
            yield Case(
                name,
                "NormalizedCut.fit, sets",
                lambda v, _: rs.NormalizedCut(2).fit(v),
                lambda given=given: given,
            )


#: What a damaged file holds, by its name.
BROKEN: dict[str, bytes] = {
    "empty.npy": b"",
    "text.npy": b"not an array",
    "cut.npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (9, 4)",
    "empty.npz": b"",
    "text.npz": b"PK\x03\x04 not a zip",
    "empty.pt": b"",
    "text.pt": b"not a pickle",
    "pickle.pt": b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.",
    "empty.safetensors": b"",
    "cut.safetensors": b'\x40\x00\x00\x00\x00\x00\x00\x00{"a":',
    "huge.safetensors": b"\xff" * 8 + b"{}",
    "empty.h5": b"",
    "text.h5": b"\x89HDF\r\n\x1a\n not more",
    "empty.csv": b"",
    "texts.csv": b"a,b\nx,y\nz,w\n",
    "ragged.csv": b"a,b\n1,2\n3\n",
    "nul.csv": b"a,b\n1,\x00\n",
    "latin1.csv": b"a,b\n1,\xff\xfe\n",
    "empty.parquet": b"",
    "text.parquet": b"PAR1 not parquet PAR1",
    "unknown.xyz": b"1 2 3",
    "no_ending": b"1 2 3",
}


@contextmanager
def _broken(folder: Path, name: str) -> Iterator[Path]:
    """Write a damaged file while it is read."""
    path = folder / name
    path.write_bytes(BROKEN[name])
    try:
        yield path
    finally:
        path.unlink()


def file_cases() -> Iterator[Case]:
    """Files that are missing, damaged, folders, of other kinds, and paths that are none."""

    readers: dict[str, Callable[[Path], object]] = {
        "align": lambda path: rs.align({"a": path, "b": path}),
        "compare": lambda path: rs.compare(path, path),
        "NormalizedCut.fit": lambda path: rs.NormalizedCut(2).fit(path),
        "Aligner.transform": lambda path: _aligner().transform(path),
    }
    for area, read in readers.items():
        for name in BROKEN:

            def call(_: Any, folder: Path, read: Any = read, name: str = name) -> object:
                with _broken(folder, name) as path:
                    return read(path)

            yield Case(name, f"{area}, files", call, words=[name])
        for name in ("gone.npy", "gone.zarr", "gone.safetensors", "gone/x.h5", "gone.csv"):

            def missing(_: Any, folder: Path, read: Any = read, name: str = name) -> object:
                return read(folder / name)

            yield Case(f"missing {name}", f"{area}, files", missing, words=[name])

        def a_folder(_: Any, folder: Path, read: Any = read) -> object:
            return read(folder)

        yield Case("a folder", f"{area}, files", a_folder)
    for name in ("empty.safetensors", "cut.safetensors", "huge.safetensors", "text.npy"):
        loaders: dict[str, Callable[[Path], object]] = {
            "load_space": rs.load_space,
            "NormalizedCut.load": rs.NormalizedCut.load,
            "Coloring.load": rs.Coloring.load,
        }
        for area, load in loaders.items():

            def loaded(_: Any, folder: Path, load: Any = load, name: str = name) -> object:
                with _broken(folder, name) as path:
                    return load(path)

            yield Case(name, f"{area}, files", loaded, words=[name])


def output_cases() -> Iterator[Case]:
    """Places that nothing can be written to."""
    outputs: dict[str, Callable[[Any], object]] = {
        "Aligner.transform": lambda out: _aligner().transform(BASE, out=out),
        "NormalizedCut.fit": lambda out: rs.NormalizedCut(3, density=0.2).fit(BASE, out=out),
        "colors": lambda out: rs.colors(_cut(), out=out),
    }
    wrong: dict[str, Any] = {
        "another ending": "o.txt",
        "no ending": "o",
        "nothing": "",
        "a number": 5,
        "a list": ["o.npy"],
        "two places for one set": {"features": "a.npy", "b": "b.npy"},
        "another set's place": {"b": "b.npy"},
        "NUL": "o\0.npy",
    }
    for area, write in outputs.items():
        for name, out in wrong.items():
            if area == "Aligner.transform" and isinstance(out, dict):
                continue

            def call(given: Any, folder: Path, write: Any = write) -> object:
                at = str(folder / given) if isinstance(given, str) and given else given
                return write(at)

            yield Case(name, f"{area}, out", call, lambda out=out: out)


def all_cases() -> list[Case]:
    """All hostile calls of the library."""
    return [
        *feature_cases(),
        *measure_cases(),
        *parameter_cases(),
        *shape_cases(),
        *item_cases(),
        *mapping_cases(),
        *file_cases(),
        *output_cases(),
    ]
