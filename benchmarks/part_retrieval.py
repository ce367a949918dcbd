"""Does a patch find the same part in the other network: which settings, and how sure is it?"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

# The examples are not installed; they are found from the root of the repository.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import relspace
from examples.portraits.held_out import hold_out
from examples.portraits.networks import NETWORKS, load_network
from examples.portraits.study import (
    N_GRAPH_NODES,
    N_LANDMARK_IMAGES,
    N_LANDMARKS,
    N_QUERIED_IMAGES,
    QUERIES_PER_PART,
    Truth,
    shared_positions,
    sides,
)
from relspace import TokenSpace
from relspace.demo.color_agreement import color_agreement
from relspace.demo.methods import Method, Sides, aligned, contenders, separately
from relspace.demo.retrieval import (
    NEAREST,
    Patches,
    Retrieval,
    mean_of,
    retrieval_of,
)
from relspace.embedding.joint_colors import color_jointly
from relspace.features import FeatureSet

# Settings are chosen on portraits of their own; the study and its seeds never see these.
VALIDATION_SEEDS = tuple(2_000_000_000 + number for number in range(4))
TEST_SEEDS = tuple(range(8))

DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.2)
STANDARDIZATIONS = ("columns", "half-whiten", "whiten")
NORMALIZATIONS = ("center+unit", "zscore+unit", "quarter-whiten+unit")

# Spaces of tokens on grids: settings of relspace.align.
GRID_SETTINGS = (
    ("center+unit", "columns", 0.05),
    ("center+unit", "columns", 0.02),
    ("quarter-whiten+unit", "columns", 0.02),
    ("center+unit", "half-whiten", 0.02),
    ("center+unit", "half-whiten", 0.05),
    ("center+unit", "half-whiten", 0.1),
    ("center+unit", "whiten", 0.05),
    ("quarter-whiten+unit", "half-whiten", 0.05),
    ("quarter-whiten+unit", "half-whiten", 0.1),
)

RESULTS = Path(__file__).parent / "results" / "part_retrieval.json"
Say = Callable[[str], object]


@dataclass(frozen=True)
class Portraits:
    """What the networks make of one draw of portraits, and the truth about it."""

    truth: Truth
    sides: Sides

    @classmethod
    def drawn(cls, seed: int) -> Portraits:
        """Draw as the study does: the last layers, landmarks in portraits apart."""
        networks = {name: load_network(name)[0] for name in NETWORKS}
        held_out = hold_out(networks, N_LANDMARK_IMAGES, N_QUERIED_IMAGES, seed)
        first, second = (features.layers[-1] for features in held_out.features.values())
        positions = shared_positions(held_out, N_LANDMARKS, seed)
        truth = Truth.of(held_out, QUERIES_PER_PART, seed)
        return cls(truth, sides(held_out, positions, (first, second)))

    def part_retrieval(self, method: Method) -> float:
        """Mean over the parts and both directions."""
        return self.truth.retrieve(method(self.sides)).mean


def tune(say: Say) -> list[dict[str, object]]:
    """Part retrieval of every setting, averaged over the validation portraits."""
    several = [Portraits.drawn(seed) for seed in VALIDATION_SEEDS]
    say(f"Validation portraits, {len(several)} draws; part retrieval by density:")
    say(f"{'tokens':<22}{'columns':<14}" + "".join(f"{one:>8}" for one in DENSITIES))
    rows: list[dict[str, object]] = []
    for normalize, standardize in itertools.product(NORMALIZATIONS, STANDARDIZATIONS):
        values = [
            statistics.mean(
                one.part_retrieval(separately(aligned(density, normalize, standardize)))
                for one in several
            )
            for density in DENSITIES
        ]
        by_density = dict(zip(map(str, DENSITIES), values, strict=True))
        rows.append({"normalize": normalize, "standardize": standardize, "mean": by_density})
        say(f"{normalize:<22}{standardize:<14}" + "".join(f"{one:>8.3f}" for one in values))
    return rows


def tune_grids(say: Say) -> list[dict[str, object]]:
    """What spaces of tokens on grids find, whose landmarks lie in the portraits asked for.

    The control gives the part network the same portraits in another order: an image that is found
    more often than by chance then comes from the landmarks' positions alone.
    """
    several = [GridPortraits.drawn(seed) for seed in VALIDATION_SEEDS]
    say(f"\nTokens on grids, landmarks in the same {N_QUERIED_IMAGES} portraits:")
    titles = ("part", "position", "color", "by color", "control")
    say(f"{'tokens':<22}{'columns':<14}{'density':>8}" + "".join(f"{one:>10}" for one in titles))
    rows: list[dict[str, object]] = []
    for normalize, standardize, density in GRID_SETTINGS:
        each = [one.measured(normalize, standardize, density) for one in several]
        values = {key: statistics.mean(one[key] for one in each) for key in each[0]}
        about = {"normalize": normalize, "standardize": standardize, "density": density}
        rows.append({**about, **values})
        say(
            f"{normalize:<22}{standardize:<14}{density:>8}"
            + "".join(f"{one:>10.3f}" for one in values.values())
        )
    return rows


@dataclass(frozen=True)
class GridPortraits:
    """The queried portraits of one draw as feature sets, and the truth about them."""

    truth: Truth
    sets: dict[str, FeatureSet]

    @classmethod
    def drawn(cls, seed: int) -> GridPortraits:
        """The last layers; portraits are matched by position."""
        networks = {name: load_network(name)[0] for name in NETWORKS}
        held_out = hold_out(networks, N_LANDMARK_IMAGES, N_QUERIED_IMAGES, seed)
        sets = {
            name: _without_ids(one, list(held_out.queried_images))
            for name, one in held_out.features.items()
        }
        return cls(Truth.of(held_out, QUERIES_PER_PART, seed), sets)

    def measured(self, normalize: str, standardize: str, density: float) -> dict[str, float]:
        """Part retrieval, matches of the same position, colours, and the control over chance."""

        def aligned_sets(sets: Mapping[str, FeatureSet]) -> TokenSpace:
            space = relspace.align(
                sets,
                landmarks=N_LANDMARKS,
                density=density,
                normalize=normalize,
                standardize=standardize,
            )
            assert isinstance(space, TokenSpace)
            return space

        space = aligned_sets(self.sets)
        a, b = space.names
        first, second = self.truth.patches
        distances = torch.as_tensor(space.pairwise(a, b))
        retrieval = mean_of(
            [
                _retrieved(distances, first, second, self.truth.queries[0]),
                _retrieved(distances.T, second, first, self.truth.queries[1]),
            ]
        )
        shapes = {name: (space.grid(name).rows, space.grid(name).columns) for name in space}
        joint = color_jointly(space, shapes, n_landmarks=N_GRAPH_NODES)
        rgb = [torch.from_numpy(one.copy()).flatten(0, 2) for one in joint.colors.values()]
        agreement = color_agreement(rgb, self.truth.patches, self.truth.queries)
        turned = list(torch.arange(N_QUERIED_IMAGES).roll(5))
        mixed_up = {**self.sets, "parts": _without_ids(self.sets["parts"], turned)}
        matches = aligned_sets(mixed_up).match(a, b)
        found = second.images[torch.as_tensor(matches.indices)[:, 0]]
        return {
            "part": retrieval.mean,
            "position": space.match(a, b).accuracy,
            "color_consistency": agreement.consistency,
            "color_retrieval": agreement.retrieval.mean,
            "control": N_QUERIED_IMAGES * float((found == first.images).double().mean()),
        }


def _without_ids(features: FeatureSet, images: Sequence[int]) -> FeatureSet:
    last = features.select(images=images, layers=features.layers[-1])
    return FeatureSet({name: last[name] for name in last})


def _retrieved(
    distances: torch.Tensor, patches: Patches, others: Patches, queries: torch.Tensor
) -> Retrieval:
    apart = distances[queries].masked_fill(
        patches.images[queries, None] == others.images, torch.inf
    )
    nearest = apart.topk(NEAREST, largest=False).indices
    return retrieval_of(patches.parts[queries], others.parts[nearest], patches.names)


def contest(seeds: Sequence[int], say: Say) -> list[dict[str, float]]:
    """Part retrieval of every contender on the portraits of each seed."""
    found = []
    for seed in seeds:
        portraits = Portraits.drawn(seed)
        narrow, wide = sorted((portraits.sides.X.shape[1], portraits.sides.Y.shape[1]))
        ways = contenders(narrow, wide)
        values = {key: portraits.part_retrieval(way.method) for key, way in ways.items()}
        values["principal_components"] = portraits.truth.retrieve_before(portraits.sides).mean
        peer = max(values[key] for key, way in ways.items() if way.kind == "peer")
        before = max(values[key] for key, way in ways.items() if way.kind == "before")
        position = portraits.truth.retrieve_by_position().mean
        found.append(
            {
                **values,
                "position": position,
                "best_peer": peer,
                "over_before": values["aligned"] / before,
                "over_best_peer": values["aligned"] / peer,
                "over_position": values["aligned"] / position,
            }
        )
    say(f"\n{f'{len(seeds)} draws':<24}{'mean':>8}{'sd':>8}{'least':>8}{'most':>8}")
    for key in found[0]:
        each = [one[key] for one in found]
        numbers = (statistics.mean(each), statistics.stdev(each), min(each), max(each))
        say(f"{key.replace('_', ' '):<24}" + "".join(f"{one:>8.3f}" for one in numbers))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables and write their numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tune", action="store_true", help="the tables of settings too, minutes")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, help="JSON")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    result: dict[str, object] = {}
    if options.output.exists():
        result.update(json.loads(options.output.read_text()))
    if options.tune:
        result["settings"] = {"seeds": VALIDATION_SEEDS, "rows": tune(say)}
        result["grids"] = {"seeds": VALIDATION_SEEDS, "rows": tune_grids(say)}
    say("\nValidation portraits")
    validation = contest(VALIDATION_SEEDS, say)
    say("\nTest portraits")
    test = contest(TEST_SEEDS, say)
    result["validation"] = _by_seed(VALIDATION_SEEDS, validation)
    result["test"] = _by_seed(TEST_SEEDS, test)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


def _by_seed(
    seeds: Sequence[int], found: Sequence[Mapping[str, float]]
) -> dict[str, Mapping[str, float]]:
    return {str(seed): one for seed, one in zip(seeds, found, strict=True)}


if __name__ == "__main__":
    main()
