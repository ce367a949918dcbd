"""Whether a store is of the extraction that is asked for, so that it can be resumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relspace._core.arguments import name_some
from relspace.errors import InvalidInputError
from relspace.features.items import IdentifiedItems
from relspace.features.network_identity import what_changed_in_network
from relspace.features.store.reading import FORMAT_VERSION, read_digests, read_ids
from relspace.rows.identity import Identity, what_changed
from relspace.rows.ledger import Resume

_REPLACE = ("name another output", "replace it with {overwrite=True}")
_VOUCH = "vouch that it is the same by {resume='trust'}"
# Parts of a job that are compared as identities; earlier versions stored a digest of the code.
_IDENTIFIED = ("items", "ids", "network", "code")


class OtherExtractionError(InvalidInputError):
    """A store isn't known to be of the extraction that was asked for."""


def whole_job(job: Mapping[str, Any], items: IdentifiedItems) -> dict[str, Any]:
    """Return the job with the items and their ids: all that features depend on."""
    return {**job, "items": items.identity, "ids": items.ids_digest()}


def refuse_another(
    location: str | Path,
    root: Any,
    header: Mapping[str, Any],
    items: IdentifiedItems,
    job: Mapping[str, Any],
    resume: Resume,
) -> None:
    """Refuse to resume a store that isn't known to be of this extraction."""
    if header["format_version"] != FORMAT_VERSION:
        raise OtherExtractionError(
            f"{location} has format version {header['format_version']}, which doesn't identify its "
            "items: it can be opened, not resumed.",
            ways_out=_REPLACE,
        )
    if changed := _changed_items(root, header, items):
        raise OtherExtractionError(
            f"{location} holds features of other items: {changed}.", ways_out=_REPLACE
        )
    different = [
        name
        for name in {**header["job"], **job}
        if name not in _IDENTIFIED and header["job"].get(name) != job.get(name)
    ]
    if different:
        raise OtherExtractionError(
            f"{location} holds another extraction; different are {', '.join(different)}.",
            ways_out=_REPLACE,
        )
    before = Identity.of(header["job"]["items"])
    if resume == "trust" and not before.is_known_to_differ_from(items.identity):
        return
    if resume != "trust":
        _refuse_another_network(location, Identity.of(header["job"].get("network")), job["network"])
    for one in (before, items.identity):
        if not one.is_known:
            raise OtherExtractionError(
                f"{location} is there, and whether it is of the same items is unknown: they can't "
                f"be identified ({one.detail['reason']}).",
                ways_out=[*_REPLACE, _VOUCH],
            )
    if not before.same_as(items.identity):
        raise OtherExtractionError(
            f"{location} holds features of other items: {', '.join(what_changed(before, one))}.",
            ways_out=_REPLACE,
        )


def _refuse_another_network(location: str | Path, before: Identity, record: object) -> None:
    now = Identity.of(record)
    if before.same_as(now):
        return
    unknown = next((one for one in (before, now) if not one.is_known), None)
    if unknown is None:
        said = f"is of another network: {what_changed_in_network(before, now)}"
    else:
        reason = unknown.detail.get("reason")
        said = f"is there, and whether it is of the same network can't be told ({reason})"
    raise OtherExtractionError(f"{location} {said}.", ways_out=[*_REPLACE, _VOUCH])


def _changed_items(root: Any, header: Mapping[str, Any], items: IdentifiedItems) -> str:
    """Say which items of a store have changed since it was begun; empty if none is known to."""
    before, now = read_ids(root, header), items.items.ids
    if before is not None and now is not None and isinstance(before[0], str):
        # Earlier versions kept whole numbers as text.
        now = tuple(map(str, now))
    n_before = root["status"].shape[0]
    if (before is None) != (now is None):
        return "they " + ("have ids now, and had none" if before is None else "had ids")
    if before is not None and now is not None and before != now:
        gone, new = [*(set(before) - set(now))], [*(set(now) - set(before))]
        said = [
            f"{len(found)} {what} ({name_some(sorted(found, key=str))})"
            for found, what in ((gone, "gone"), (new, "new"))
            if found
        ]
        return ", ".join(said) or "their ids are in another order"
    if n_before != len(items.items):
        return f"{n_before} then, {len(items.items)} now"
    digests = read_digests(root)
    if digests is None or items.contents is None:
        return ""
    pairs = zip(digests, items.contents.digests, strict=True)
    changed = [i for i, (one, other) in enumerate(pairs) if one != other]
    if not changed:
        return ""
    if Counter(digests) == Counter(items.contents.digests):
        return f"the same in another order, the first that moved is {items.items.names[changed[0]]}"
    named = name_some([items.items.names[i] for i in changed])
    return f"{len(changed)} of {n_before} have other content ({named})"
