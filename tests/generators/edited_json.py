"""Every edit of one value in a tree of JSON: deleted, or replaced by a value of another kind."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

#: What replaces a value.
REPLACEMENTS = (None, "bogus", -1, 1e30, float("nan"), [], {}, True, 0)


def edits(tree: Any) -> Iterator[tuple[str, Any]]:
    """What was edited, and the tree with this one edit."""
    for path in _paths(tree):
        for value in ("deleted", *REPLACEMENTS):
            edited = copy.deepcopy(tree)
            parent = edited
            for key in path[:-1]:
                parent = parent[key]
            if value == "deleted":
                del parent[path[-1]]
            else:
                parent[path[-1]] = value
            if repr(edited) != repr(tree):
                yield f"{path}: {value}", edited


def _paths(tree: Any) -> Iterator[tuple[Any, ...]]:
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in entries:
        yield (key,)
        if isinstance(value, dict | list):
            yield from ((key, *rest) for rest in _paths(value))
