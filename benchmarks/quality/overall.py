"""All tasks together: the mean rank of each measure over tasks 1 to 3, matching over 2 and 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quality.matchers import COUNTERPARTS, OURS
from quality.results import Scores, markdown
from quality.scores import Mean, mean_of_means

AFFINITY = "affinity"


def rank_measures(layers: Scores, matching: Scores, groups: Scores) -> dict[str, list[Mean]]:
    """Mean ranks of the measures in tasks 1 to 3 and over all three, each task counting alike.

    In task 2 a measure has the rank, among the ways of matching that are some measure's, of the
    one that looks at what the measure looks at.
    """
    names = [name for name in layers.values if name in COUNTERPARTS]
    matched = matching.mean_ranks(list(dict.fromkeys(COUNTERPARTS[name] for name in names)))
    identified, told = layers.mean_ranks(names), groups.mean_ranks(names)
    # Fewer ways of matching than measures: stretched, so that a last place costs as much.
    stretch = (len(names) - 1) / max(1, len(matched) - 1)
    table = {}
    for name in names:
        counterpart = matched[COUNTERPARTS[name]]
        second = Mean(
            1 + (counterpart.value - 1) * stretch,
            counterpart.standard_error * stretch,
            counterpart.n,
        )
        tasks = [identified[name], second, told[name]]
        table[name] = [*tasks, mean_of_means(tasks)]
    return dict(sorted(table.items(), key=lambda item: item[1][-1].value))


def measures_table(ranked: Mapping[str, Sequence[Mean]]) -> str:
    """The mean ranks as a table."""
    header = ["Mean rank", "task 1: layers", "task 2: items", "task 3: groups", "all three"]
    return markdown(
        header, [[name, *(f"{one:.2f}" for one in row)] for name, row in ranked.items()]
    )


def is_first(ranked: Mapping[str, Sequence[Mean]]) -> bool:
    """Whether our measure is first, or within one standard error of the first."""
    first = min(row[-1].value for row in ranked.values())
    ours = ranked[AFFINITY][-1]
    return ours.value - first <= ours.standard_error


def matching_means(matching: Scores, transformed: Scores) -> dict[str, tuple[float, float, float]]:
    """Top-1 accuracy of every way of matching in task 2, in task 4, and their mean."""
    table = {}
    for name in matching.values:
        two, four = matching.overall(name), transformed.overall(name)
        table[name] = (two, four, (two + four) / 2)
    return dict(sorted(table.items(), key=lambda item: -item[1][2]))


def matching_table(means: Mapping[str, Sequence[float]]) -> str:
    """The means as a table."""
    header = ["Top-1 accuracy", "task 2: networks", "task 4: transforms", "mean"]
    return markdown(header, [[name, *(f"{one:.3f}" for one in row)] for name, row in means.items()])


def beats_all(means: Mapping[str, Sequence[float]]) -> bool:
    """Whether our way of matching has the highest mean."""
    return next(iter(means)) == OURS
