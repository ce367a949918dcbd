"""Values of methods over the cells of a task: tables, ranks, and what goes into the JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from quality.scores import Mean, mean_of_means, ranks


@dataclass
class Scores:
    """Values of methods in one task; the larger, the better.

    A task has columns, what its table shows, and each column has blocks, such as families of
    networks. A block holds repetitions. Methods are ranked in every block of every column by its
    mean.

    Attributes
    ----------
    task : str
        What was asked.
    values : dict
        ``values[method][column][block]`` is the list of repetitions.
    """

    task: str
    values: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)

    def add(self, method: str, column: str, block: str, value: float) -> None:
        """Put one more repetition down."""
        self.values.setdefault(method, {}).setdefault(column, {}).setdefault(block, []).append(
            value
        )

    @property
    def columns(self) -> list[str]:
        """The columns, in the order in which they were put down."""
        return list(next(iter(self.values.values())))

    def mean(self, method: str, column: str) -> Mean:
        """Mean over blocks; its standard error is that of repetitions within the blocks.

        Where a block has no repetitions it is the spread over blocks.
        """
        blocks = [Mean.of(values) for values in self.values[method][column].values()]
        if any(one.n == 1 for one in blocks):
            return Mean.of([one.value for one in blocks])
        value = sum(one.value for one in blocks) / len(blocks)
        error = math.sqrt(sum(one.standard_error**2 for one in blocks)) / len(blocks)
        return Mean(value, error, sum(one.n for one in blocks))

    def overall(self, method: str) -> float:
        """Mean over columns."""
        return sum(self.mean(method, column).value for column in self.columns) / len(self.columns)

    def overall_error(self, method: str) -> float:
        """Standard error of the mean over columns, as if they were independent."""
        return mean_of_means([self.mean(method, column) for column in self.columns]).standard_error

    def mean_ranks(self, among: Sequence[str] | None = None) -> dict[str, Mean]:
        """Mean rank of each method over all blocks of all columns."""
        cells = {
            method: [
                Mean.of(values).value
                for column in self.columns
                for values in self.values[method][column].values()
            ]
            for method in among or self.values
        }
        return {method: Mean.of(one) for method, one in ranks(cells).items()}

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain values, ready for JSON."""
        by_rank = self.mean_ranks()
        return {
            "task": self.task,
            "columns": self.columns,
            "methods": {
                method: {
                    "mean_rank": by_rank[method].value,
                    "mean_rank_standard_error": by_rank[method].standard_error,
                    "mean": self.overall(method),
                    "columns": {
                        column: {
                            "mean": self.mean(method, column).value,
                            "standard_error": self.mean(method, column).standard_error,
                            "values": self.values[method][column],
                        }
                        for column in self.columns
                    },
                }
                for method in self.values
            },
        }

    def table(self) -> str:
        """A table in Markdown, the best mean rank first, the best value of a column in bold."""
        by_rank = self.mean_ranks()
        means = {m: [self.mean(m, column) for column in self.columns] for m in self.values}
        best = [
            max(column, key=lambda one: one.value).value
            for column in zip(*means.values(), strict=True)
        ]
        rows = []
        for method in sorted(self.values, key=lambda name: by_rank[name].value):
            cells = [
                f"**{one:.3f}**" if one.value == top else f"{one:.3f}"
                for one, top in zip(means[method], best, strict=True)
            ]
            rows.append([method, *cells, f"{self.overall(method):.3f}", f"{by_rank[method]:.1f}"])
        return markdown([self.task, *self.columns, "mean", "mean rank"], rows)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up in plain text too."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * (width - 1) + (":" if i else "-") for i, width in enumerate(widths)]
    lines = []
    for row in (header, rule, *rows):
        first, *others = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
