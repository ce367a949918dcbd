"""What a comparison of two sets found: a value beside chance, p-value, interval and ceiling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.versions import __version__
from relspace.measures import Measure
from relspace.pictures.html import html_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Comparison:
    """How similar two sets of features are, and what that is to be read beside.

    Attributes
    ----------
    measure : Measure
        What was measured; its record says what the value means.
    value : float
        The value.
    chance : float
        Its mean under permutation of the items.
    chance_std : float or None
        Its standard deviation under permutation; None where the mean is known in closed form and
        no permutations were asked for.
    p_value : float or None
        Share of permutations, the identity counted, that are at least as extreme.
    interval : tuple of float or None
        95 % confidence interval over items, or over groups of them.
    ceiling : float or None
        What noise in the features leaves room for: how far beyond chance random halves of each
        set's features agree, stepped up from halves to the whole (Spearman 1910, Brown 1910), the
        geometric mean of both sets.
    null : array of shape (n_permutations,)
        Values under permutation.
    n_items, n_features : int and tuple of int
        What was compared.
    n_available : int
        How many items there were; more than ``n_items`` where a random part was compared.
    null_by : str
        ``"permutations"`` of the items, or ``"limit"``: draws from the normal distribution that
        permutations of many items have, where items were too many to be read again and again.
    n_units : int
        How many groups were resampled; the items, where there are no groups.
    n_parts : int or None
        In how many random parts units were summed, of which halves were drawn for the interval;
        None where units were drawn themselves.
    matched_by : str
        Whether rows were matched by ``"ids"`` or by ``"position"``.
    n_bootstraps, random_state : int
        How the interval was made, and the seed.
    versions : dict of str to str
        Of the libraries.
    """

    measure: Measure
    value: float
    chance: float
    chance_std: float | None
    p_value: float | None
    interval: tuple[float, float] | None
    ceiling: float | None
    null: NDArray[np.float64] = field(repr=False)
    n_items: int
    n_features: tuple[int, int]
    n_available: int
    null_by: str
    n_units: int
    n_parts: int | None
    matched_by: str
    n_bootstraps: int
    random_state: int
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "measure": self.measure.name,
            "parameters": self.measure.parameters,
            "direction": self.measure.direction,
            "value": self.value,
            "chance": self.chance,
            "chance_std": self.chance_std,
            "p_value": self.p_value,
            "interval": None if self.interval is None else list(self.interval),
            "ceiling": self.ceiling,
            "n_items": self.n_items,
            "n_features": list(self.n_features),
            "n_available": self.n_available,
            "null_by": self.null_by,
            "n_units": self.n_units,
            "n_parts": self.n_parts,
            "matched_by": self.matched_by,
            "n_permutations": len(self.null) if self.p_value is not None else 0,
            "n_bootstraps": self.n_bootstraps,
            "random_state": self.random_state,
            "versions": dict(self.versions),
        }

    def __repr__(self) -> str:
        rows = self._lines()
        width = max(len(title) for title, _ in rows)
        return "\n".join(f"{title.ljust(width)}  {value}" for title, value in rows)

    def _repr_html_(self) -> str:
        """The value and what it is to be read beside as a table, which notebooks show."""
        return html_table("Comparison", ["", ""], self._lines())

    def _lines(self) -> list[tuple[str, str]]:
        spread = "" if self.chance_std is None else f" (sd {self.chance_std:.4f})"
        # Adding 0 to a rounded number turns -0 into 0.
        rows = [
            (self.measure.title, f"{round(self.value, 4) + 0.0:.4f}"),
            ("chance", f"{round(self.chance, 4) + 0.0:.4f}{spread}"),
        ]
        if self.p_value is not None:
            drawn = "permutations" if self.null_by == "permutations" else "draws of their limit"
            rows.append(("p", f"{self.p_value:.4g} ({len(self.null)} {drawn})"))
        if self.interval is not None:
            low, high = self.interval
            parts = "" if self.n_parts is None else f" (halves of {self.n_parts} random parts)"
            rows.append(("95 % interval", f"{low:.4f} to {high:.4f}{parts}"))
        if self.ceiling is not None:
            rows.append(("ceiling", f"{self.ceiling:.4f}"))
        units = "" if self.n_units == self.n_items else f" in {self.n_units} groups"
        part = "" if self.n_available == self.n_items else f" of {self.n_available}, at random"
        rows.append(("items", f"{self.n_items}{part}{units}, matched by {self.matched_by}"))
        return rows

    def plot(self) -> Figure:
        """Draw the value beside its null distribution, interval and ceiling.

        Returns
        -------
        Figure
            A matplotlib figure; ``figure.savefig(path)`` writes it.

        Raises
        ------
        MissingDependencyError
            If matplotlib isn't installed.
        """
        from relspace.pictures.comparison_plots import draw_comparison

        return draw_comparison(
            self.measure.title,
            value=self.value,
            chance=self.chance,
            null=self.null,
            interval=self.interval,
            ceiling=self.ceiling,
            p_value=self.p_value,
        )


def library_versions() -> dict[str, str]:
    """Versions of what a number depends on, as they run: not all are installed packages."""
    return {
        "relspace": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }
