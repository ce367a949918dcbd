"""Pairs the items of several sets, by ids or by position, and refuses items that differ."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from relspace._core.arguments import name_some, say_count
from relspace._core.items import ItemId, are_whole_numbers
from relspace.errors import InvalidInputError, ItemMismatchError, RelspaceWarning

#: The value of ``ids=`` that matches rows by position, even where ids are known.
BY_POSITION = "position"
#: The value of ``on_missing=`` that keeps only the items that all sets hold.
INTERSECT = "intersect"


class ItemContentWarning(RelspaceWarning):
    """Items that are matched by their ids have different content."""


class OtherItemsError(ItemMismatchError):
    """Rows that are matched by position are known to be of different items."""


@dataclass(frozen=True)
class ItemContents:
    """Digests of the content of a set's items, which identify them where there are no ids.

    Attributes
    ----------
    of : str
        What was hashed: ``"image files"``, ``"arrays"``, ``"texts"``. Only digests of one kind
        are compared, since one photograph is another thing as a file and as an array.
    digests : tuple of str
        One for each item; equal where the content is.
    rows_per_item : int
        How many rows an item has: its tokens, or one.
    """

    of: str
    digests: tuple[str, ...]
    rows_per_item: int = 1

    def select(self, items: Sequence[int]) -> ItemContents:
        """Return those of some items, in the order given."""
        chosen = tuple(self.digests[item] for item in items)
        return ItemContents(self.of, chosen, self.rows_per_item)

    def with_rows(self, count: int) -> ItemContents:
        """Return the same contents for items with this many rows each."""
        return ItemContents(self.of, self.digests, count)

    def in_order(self, rows: torch.Tensor | None) -> tuple[str, ...]:
        """Return the digests of the items that rows are of, in the order of the rows."""
        if rows is None:
            return self.digests
        items = rows[:: self.rows_per_item] // self.rows_per_item
        return tuple(self.digests[item] for item in items.tolist())


Contents = Mapping[str, ItemContents | None]


def pair_sets(
    sizes: Mapping[str, int],
    ids: Mapping[str, Sequence[ItemId] | None],
    contents: Contents,
    on_missing: str | None = None,
) -> tuple[tuple[ItemId, ...] | None, dict[str, torch.Tensor | None]]:
    """Pair the items of several sets as :func:`pair_items` does, and compare their content.

    Position doesn't identify an item. So where two sets without ids know the content of their
    items, it must be the same row by row. Where items have ids, other content gives a warning only:
    it may differ for good reason (a photograph in two sizes, a sentence in two languages).
    ``contents`` is None for sets whose pairing the caller determined, as by ``ids=``.
    """
    shared, order = pair_items(sizes, ids, on_missing)
    first_of: dict[str, str] = {}
    for name, known in contents.items():
        first = name if known is None else first_of.setdefault(known.of, name)
        reference = contents[first]
        if known is None or reference is None or first == name:
            continue
        if known.rows_per_item != reference.rows_per_item:
            raise ItemMismatchError(
                f"{first} has {reference.rows_per_item} rows for each of {len(reference.digests)} "
                f"items and {name} has {known.rows_per_item} for each of {len(known.digests)}, so "
                "that rows are not of the same items.",
                ways_out=['pool the tokens of both, as by fs.pool("mean")'],
            )
        before, now = reference.in_order(order[first]), known.in_order(order[name])
        pairs = zip(before, now, strict=True)
        different = [number for number, (one, other) in enumerate(pairs) if one != other]
        if different and shared is None:
            raise _other_items(first, before, name, now, different, known)
        if different and shared is not None:
            called = [shared[number * known.rows_per_item] for number in different]
            warnings.warn(
                ItemContentWarning(
                    f"{len(different)} of {len(now)} items have the same id in {first} and {name} "
                    f"and other content ({known.of}): {name_some(called)}. They are matched by "
                    "their ids; look whether they are the same items."
                ),
                stacklevel=3,
            )
    return shared, order


def _other_items(
    first: str,
    before: Sequence[str],
    name: str,
    now: Sequence[str],
    different: Sequence[int],
    known: ItemContents,
) -> OtherItemsError:
    what = "row" if known.rows_per_item == 1 else "item"
    n, at = len(now), different[0]
    if Counter(before) == Counter(now):
        said = (
            f"{first} and {name} hold the same items in different orders: {what} {at} and "
            f"{len(different) - 1} more of {n} differ ({known.of})"
        )
    else:
        said = (
            f"{what} {at} of {first} and {what} {at} of {name} are different items; "
            f"{len(different)} of {n} {what}s differ in their content ({known.of})"
        )
    return OtherItemsError(
        f"{said}, and without ids rows are matched by position.",
        ways_out=[
            "give {ids} to both sets",
            "say that these rows belong together by {ids='position'}",
            "extract features of the same items in one order",
        ],
    )


def refuse_another_order(
    name: str, given: Sequence[ItemId] | None, carried: Callable[[], Sequence[ItemId] | None]
) -> None:
    """Refuse ids that name a set's items in another order than the set itself does.

    Other names are new names, and are taken. The same names in another order are a mistake: a list
    made for one set, given to another that was sorted or shuffled since. ``carried`` returns the
    ids that the set brings; labels that can't be ids contradict nothing.
    """
    if given is None:
        return
    try:
        own = carried()
    except InvalidInputError:
        return
    if own is None or tuple(own) == tuple(given) or set(own) != set(given):
        return
    row = next(i for i, (a, b) in enumerate(zip(own, given, strict=True)) if a != b)
    raise ItemMismatchError(
        f"{name} names row {row} {own[row]!r}, and the ids given for it {given[row]!r}: they hold "
        "the same items in another order.",
        ways_out=[
            "leave {ids} out, for the set brings its own",
            "match rows by position with {ids='position'}",
        ],
    )


def is_by_position(ids: object) -> bool:
    """Whether ``ids`` is "position"; another string is refused, since it can't be a list."""
    if isinstance(ids, str) and ids != BY_POSITION:
        raise InvalidInputError(
            f"ids is {ids!r}; it must be lists of ids, or {BY_POSITION!r} to match rows by "
            "position whatever their ids."
        )
    return isinstance(ids, str)


def pair_items(
    sizes: Mapping[str, int],
    ids: Mapping[str, Sequence[ItemId] | None],
    on_missing: str | None = None,
) -> tuple[tuple[ItemId, ...] | None, dict[str, torch.Tensor | None]]:
    """Pair the items of several sets, by id where there are ids and by position where not.

    Returns the shared ids in the order of the first set, or None, and for each set the rows that
    bring it into that order, None where it already has it. Sets of which only some have ids raise
    ItemMismatchError, and so do sets of different items, unless ``on_missing`` is "intersect",
    which keeps the items that all sets hold; None is for callers that don't offer this.
    """
    names = list(sizes)
    first = names[0]
    if not refuse_some_without_ids(ids):
        for name in names[1:]:
            if sizes[name] != sizes[first]:
                raise ItemMismatchError(
                    f"{first} has {say_count(sizes[first], 'item')} and {name} has {sizes[name]}; "
                    "without ids rows are matched by position and must be equally many.",
                    ways_out=["give {ids}"],
                )
        if on_missing == INTERSECT:
            raise ItemMismatchError(
                f"on_missing is {INTERSECT!r} and the sets have no ids, by which the items that "
                "all hold could be found.",
                ways_out=["give {ids}"],
            )
        return None, dict.fromkeys(names)
    reference = tuple(ids[first] or ())
    ids_of = {name: _of_kind(tuple(ids[name] or ()), reference) for name in names}
    for name, own in ids_of.items():
        _refuse_other_kind(first, reference, name, own)
    if on_missing == INTERSECT:
        reference = _shared_by_all(ids_of)
    order: dict[str, torch.Tensor | None] = {}
    for name, own in ids_of.items():
        if own == reference:
            order[name] = None
            continue
        row_of = {item: row for row, item in enumerate(own)}
        if on_missing != INTERSECT:
            _refuse_different_items(first, reference, name, own, can_intersect=bool(on_missing))
        order[name] = torch.tensor([row_of[item] for item in reference])
    return reference, order


def _shared_by_all(ids: Mapping[str, tuple[ItemId, ...]]) -> tuple[ItemId, ...]:
    """The items that all sets hold, in the order of the first; none is refused."""
    first, *others = ids.values()
    in_others = [frozenset(own) for own in others]
    shared = tuple(item for item in first if all(item in own for own in in_others))
    if not shared:
        examples = "; ".join(f"{name} holds {name_some(own)}" for name, own in ids.items())
        raise ItemMismatchError(f"no item is in all of the sets: {examples}.")
    return shared


def refuse_some_without_ids(ids: Mapping[str, object]) -> bool:
    """Refuse sets of which some have ids and others none; else say whether they have some."""
    without = [name for name, own in ids.items() if own is None]
    having = [name for name in ids if name not in without]
    if without and having:
        raise ItemMismatchError(
            f"{name_some(without)} {'has' if len(without) == 1 else 'have'} no ids while "
            f"{name_some(having)} {'has' if len(having) == 1 else 'have'} some.",
            ways_out=[
                _name_each(ids),
                "match rows by position with {ids='position'}",
            ],
        )
    return bool(having)


def _name_each(names: Iterable[str]) -> str:
    """The way out to give ids of each of some sets."""
    return f"name the items of each: {{ids={{{', '.join(f'{name!r}: ...' for name in names)}}}}}"


def _of_kind(own: tuple[ItemId, ...], reference: tuple[ItemId, ...]) -> tuple[ItemId, ...]:
    """Convert ids to the kind of the reference, text or numbers, where all are whole numbers.

    A table in text doesn't say whether 7 is a number. As every whole number is written in one way,
    "7" and 7 can't be two items, neither within a set (as_ids refuses both kinds in one) nor here.
    """
    if isinstance(own[0], str) == isinstance(reference[0], str):
        return own
    if isinstance(own[0], int):
        return tuple(map(str, own)) if are_whole_numbers(reference) else own
    return tuple(map(int, own)) if are_whole_numbers(own) else own


def _refuse_other_kind(
    first: str, reference: tuple[ItemId, ...], name: str, own: tuple[ItemId, ...]
) -> None:
    kinds = isinstance(reference[0], str), isinstance(own[0], str)
    if kinds[0] != kinds[1]:
        kind = ("whole numbers", "strings")
        raise ItemMismatchError(
            f"the ids of {first} are {kind[kinds[0]]} and those of {name} are {kind[kinds[1]]}, "
            "which are not all written as whole numbers are; use one kind."
        )


def _refuse_different_items(
    first: str,
    reference: tuple[ItemId, ...],
    name: str,
    own: tuple[ItemId, ...],
    *,
    can_intersect: bool,
) -> None:
    present, wanted = set(own), set(reference)
    missing = [item for item in reference if item not in present]
    extra = [item for item in own if item not in wanted]
    if missing or extra:
        parts = []
        if missing:
            said = say_count(len(missing), "item")
            parts.append(f"{name} lacks {said} of {first}: {name_some(missing)}")
        if extra:
            said = say_count(len(extra), "item")
            parts.append(f"{first} lacks {said} of {name}: {name_some(extra)}")
        ways_out = ["select the shared items first"]
        if can_intersect and not present.isdisjoint(wanted):
            ways_out = ["keep the items that all sets hold: {on_missing='intersect'}"]
        if isinstance(reference[0], int):
            # Whole numbers may be row numbers of a larger table, which identify no item.
            ways_out = [
                _name_each((first, name)),
                *ways_out,
                "match rows by position with {ids='position'}",
            ]
        raise ItemMismatchError("; ".join(parts) + ".", ways_out=ways_out)
