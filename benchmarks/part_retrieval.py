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

from relspace.demo.portraits.contenders import contenders
from relspace.demo.portraits.held_out import hold_out
from relspace.demo.portraits.methods import Method, Sides, aligned, separately
from relspace.demo.portraits.networks import NETWORKS, load_network
from relspace.demo.portraits.study import (
    N_LANDMARK_IMAGES,
    N_LANDMARKS,
    N_QUERIED_IMAGES,
    QUERIES_PER_PART,
    Truth,
    shared_places,
    sides,
)

# Settings are chosen on portraits of their own; the study and its seeds never see these.
VALIDATION_SEEDS = tuple(2_000_000_000 + number for number in range(4))
TEST_SEEDS = tuple(range(8))

DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.2)
STANDARDIZATIONS = ("columns", "half-whiten", "whiten")
NORMALIZATIONS = ("center+unit", "zscore+unit", "quarter-whiten+unit")

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
        places = shared_places(held_out, N_LANDMARKS, seed)
        truth = Truth.of(held_out, QUERIES_PER_PART, seed)
        return cls(truth, sides(held_out, places, (first, second)))

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
        position = portraits.truth.retrieve(portraits.truth.positions(), euclidean=True).mean
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
    parser.add_argument("--tune", action="store_true", help="the table of settings too, minutes")
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
