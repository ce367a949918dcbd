"""How well are features of one network predicted from another's, beside other ways to map them?

    python benchmarks/translation.py
    python benchmarks/translation.py --half choosing
    python benchmarks/translation.py --time

Networks are pretrained (extra `demo`). How to translate was settled on those that choose settings;
the table is of those that judge them (``quality/pretrained.py``). Peers see the same pairs: affine
least squares, an orthogonal map, Procrustes with a scale, ridge regression, and canonical
correlations with as much ridge. ``--time`` takes the time of 100,000 vectors of 384 dimensions.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

import relspace as rs
from _measure import describe_machine, write_json
from quality.pretrained import (
    CHOOSING,
    ENDINGS,
    JUDGING,
    OPENINGS,
    STAGE_OF_STRIDE,
    Half,
    layer_at_stride,
    seen,
)
from relspace.kernels.ridge import ridge_weights
from relspace.space.translation import METHODS
from relspace.space.translator import recall_of_neighbors

HERE = Path(__file__).resolve().parent
N_PAIRS, N_NEIGHBORS, N_TESTED, SEEDS = (50, 300, 800), 10, 300, (0, 1, 2)


def centred(way: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A linear way of weights, as a function of pairs and of new rows."""

    def translate(X: Tensor, Y: Tensor, new: Tensor) -> Tensor:
        x, y = X - X.mean(0), Y - Y.mean(0)
        return (new - X.mean(0)) @ way(x, y) + Y.mean(0)

    return translate


def orthogonal(x: Tensor, y: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(x.T @ y, full_matrices=False)
    rotation: Tensor = left @ right
    return rotation


def canonical(x: Tensor, y: Tensor) -> Tensor:
    """Both sets whitened with a ridge of a tenth of their mean variance, and rotated."""
    factors = []
    for one in (x, y):
        covariance = one.T @ one
        variances, axes = torch.linalg.eigh(covariance)
        size = (variances.clamp_min(0) + 0.1 * variances.mean()).sqrt()
        factors.append((axes / size @ axes.T, axes * size @ axes.T))
    (to_x, _), (to_y, from_y) = factors
    left, sizes, right = torch.linalg.svd(to_x @ x.T @ y @ to_y, full_matrices=False)
    weights: Tensor = to_x @ (left * sizes @ right) @ from_y
    return weights


PEERS = {
    "affine least squares": centred(lambda x, y: torch.linalg.pinv(x) @ y),
    "orthogonal": centred(orthogonal),
    "Procrustes": lambda X, Y, new: METHODS["procrustes"](X, Y, 0)(new),
    "ridge": centred(ridge_weights),
    "canonical correlations": centred(canonical),
}


def pairs_of(half: Half) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Sets of the same tokens, images or sentences, by what they are."""
    for (a, b), stride in itertools.product([*half.matched, *half.unlike], STAGE_OF_STRIDE):
        layers = layer_at_stride(a, stride), layer_at_stride(b, stride)
        if layers[0] is None or layers[1] is None:
            continue
        one, other = seen(a, half), seen(b, half)
        yield "tokens", one.tokens[layers[0]], other.tokens[layers[1]]
        X, Y = one.pooled[layers[0]], other.pooled[layers[1]]
        if len(X) == len(Y) and len(X) > 200:
            yield "images", X, Y
    one, other = seen(OPENINGS, half), seen(ENDINGS, half)
    names = list(one.pooled)
    for early, late in itertools.pairwise(names[::2]):
        yield "sentences, another layer", one.pooled[early], one.pooled[late]


def compare_ways(half: Half) -> list[dict[str, object]]:
    """Recall of true neighbours of new items, by kind of set, number of pairs and way."""
    found: dict[tuple[str, int, str], list[float]] = {}
    for kind, X, Y in pairs_of(half):
        X, Y = X.double(), Y.double()
        for n_pairs, seed in itertools.product(N_PAIRS, SEEDS):
            if n_pairs > len(X) - 90:
                continue
            order = torch.randperm(len(X), generator=torch.Generator().manual_seed(seed))
            known, new = order[:n_pairs], order[n_pairs:][:N_TESTED]
            ways = {name: way(X[known], Y[known], X[new]) for name, way in PEERS.items()}
            fitted = rs.Translator(random_state=seed).fit(X[known], Y[known])
            ways["relspace"] = torch.as_tensor(fitted.transform(X[new]))
            for name, translated in ways.items():
                everything = Y.clone()
                everything[new] = translated
                score = recall_of_neighbors(everything, Y, N_NEIGHBORS, new)
                found.setdefault((kind, n_pairs, name), []).append(score)
    return [
        {
            "items": kind,
            "pairs": n_pairs,
            "way": name,
            "recall": sum(scores) / len(scores),
            "cases": len(scores),
        }
        for (kind, n_pairs, name), scores in found.items()
    ]


def time_translation() -> list[dict[str, object]]:
    """Microseconds for each of 100,000 vectors of 384 dimensions."""
    generator = torch.Generator().manual_seed(0)
    X, Y = (torch.randn(2000, 384, generator=generator) for _ in range(2))
    rows = torch.randn(100_000, 384, generator=generator)
    times: list[dict[str, object]] = []
    for method in ("ridge", "local"):
        fitted = rs.Translator(method).fit(X, Y)
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            fitted.transform(rows)
            taken.append(time.perf_counter() - start)
        times.append({"method": method, "microseconds": min(taken) / len(rows) * 1e6})
    return times


def main() -> None:
    """Print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=["choosing", "judging"], default="judging")
    parser.add_argument("--time", action="store_true")
    arguments = parser.parse_args()
    machine = describe_machine(torch.get_num_threads())
    if arguments.time:
        times = time_translation()
        for one in times:
            print(f"{one['method']:8s} {one['microseconds']:6.2f} us an item")
        write_json(HERE / "results" / "translation_time.json", {**machine, "times": times})
        return
    rows = compare_ways({"choosing": CHOOSING, "judging": JUDGING}[arguments.half])
    for row in rows:
        print(
            f"{row['items']:26s} {row['pairs']:5d} {row['way']:24s} {row['recall']:.3f} "
            f"({row['cases']})"
        )
    name = f"translation_{arguments.half}.json"
    write_json(HERE / "results" / name, {**machine, "recall_at": N_NEIGHBORS, "rows": rows})


if __name__ == "__main__":
    main()
