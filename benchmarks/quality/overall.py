"""All tasks together: the mean rank of each measure, and the mean of each way of matching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quality.matchers import COUNTERPARTS, OURS, OURS_TOKENS, RIDGE
from quality.results import Scores, markdown
from quality.scores import Mean, mean_of_means

AFFINITY = "affinity"


def rank_measures(
    layers: Scores, matching: Scores, groups: Scores, pretrained: Scores
) -> dict[str, list[Mean]]:
    """Mean ranks of the measures in tasks 1, 2, 3 and 5 and over all, each task counting alike.

    In task 2 a measure has the rank, among the ways of matching that are some measure's, of the
    one that looks at what the measure looks at.
    """
    names = [name for name in layers.values if name in COUNTERPARTS]
    matched = matching.mean_ranks(list(dict.fromkeys(COUNTERPARTS[name] for name in names)))
    identified, told, transferred = (one.mean_ranks(names) for one in (layers, groups, pretrained))
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
        tasks = [identified[name], second, told[name], transferred[name]]
        table[name] = [*tasks, mean_of_means(tasks)]
    return dict(sorted(table.items(), key=lambda item: item[1][-1].value))


def measures_table(ranked: Mapping[str, Sequence[Mean]]) -> str:
    """The mean ranks as a table."""
    header = [
        *("Mean rank", "task 1: layers", "task 2: items", "task 3: groups"),
        *("task 5: pretrained", "all four"),
    ]
    return markdown(
        header, [[name, *(f"{one:.2f}" for one in row)] for name, row in ranked.items()]
    )


def is_first(ranked: Mapping[str, Sequence[Mean]]) -> bool:
    """Whether our measure is first, or within one standard error of the first."""
    first = min(row[-1].value for row in ranked.values())
    ours = ranked[AFFINITY][-1]
    return ours.value - first <= ours.standard_error


def matching_means(
    matching: Scores, transformed: Scores, pretrained: Scores
) -> dict[str, list[float]]:
    """Top-1 accuracy of every way of matching in tasks 2, 4 and 6, and their mean."""
    table = {}
    for name in matching.values:
        tasks = [one.overall(name) for one in (matching, transformed, pretrained)]
        table[name] = [*tasks, sum(tasks) / len(tasks)]
    return dict(sorted(table.items(), key=lambda item: -item[1][-1]))


def matching_table(means: Mapping[str, Sequence[float]]) -> str:
    """The means as a table."""
    header = [
        *("Top-1 accuracy", "task 2: networks", "task 4: transforms"),
        *("task 6: pretrained", "mean"),
    ]
    return markdown(header, [[name, *(f"{one:.3f}" for one in row)] for name, row in means.items()])


def below_ridge(*tasks: Scores) -> str:
    """Where our way of matching is below ridge regression fitted on pairs, and by how much."""
    found = []
    for scores in tasks:
        for column in scores.columns:
            own = OURS_TOKENS if column.startswith("tokens") else OURS
            ours, theirs = (scores.mean(name, column).value for name in (own, RIDGE))
            if ours <= theirs:
                found.append(f"{column} by {theirs - ours:.3f}")
    return "; ".join(found)


def beats_all(means: Mapping[str, Sequence[float]]) -> bool:
    """Whether our way of matching has the highest mean."""
    return next(iter(means)) == OURS
