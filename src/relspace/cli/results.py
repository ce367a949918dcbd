"""How commands print results of comparisons: numbers, p-values, and which items they are of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def number_cell(value: float | None, none: str = "none") -> str:
    """A value with four decimals."""
    # Adding 0 to a rounded number turns -0 into 0.
    return none if value is None else f"{round(value, 4) + 0.0:.4f}"


def p_cell(p_value: float | None) -> str:
    """A p-value with three digits; nothing where there is none."""
    return "" if p_value is None else f"{p_value:.3g}"


def said_of_items(summary: Mapping[str, Any]) -> str:
    """Say which items were compared, and how often they were permuted; see ``Provenance``."""
    said = f"{summary['n_items']} items"
    if summary["n_available"] > summary["n_items"]:
        said = f"{summary['n_items']} of {summary['n_available']} items, at random,"
    if summary["n_units"] != summary["n_items"]:
        said += f" in {summary['n_units']} groups"
    said += f" matched by {summary['matched_by']}"
    if summary["recall"] is not None:
        said += f"; approximate neighbours, recall {summary['recall']:.4f}"
    if not summary["n_permutations"]:
        return said
    drawn = "permutations" if summary["null_by"] == "permutations" else "draws of their limit"
    return f"{said}; {summary['n_permutations']} {drawn}"
