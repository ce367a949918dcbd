"""Prints version, licence and installed size of every dependency: `make dependencies`."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

PACKAGE = "relspace"


def direct_requirements() -> list[tuple[str, str]]:
    """Return (distribution, extra) pairs, the core's with an empty extra."""
    pairs = []
    for requirement in metadata.requires(PACKAGE) or []:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        extra = re.search(r'extra == "(\w+)"', requirement)
        if name != PACKAGE:
            pairs.append((name, extra[1] if extra else ""))
    return pairs


def describe_licence(distribution: metadata.Distribution) -> str:
    """Return the licence as the distribution states it, in a few words."""
    fields = distribution.metadata.json
    stated = str(fields.get("license_expression", ""))
    classified = [
        line.rpartition(" :: ")[2]
        for line in fields.get("classifier", [])
        if line.startswith("License ::")
    ]
    short = str(fields.get("license", "")).partition("\n")[0]
    return stated or ", ".join(classified) or short or "not stated"


def size_in_mb(distribution: metadata.Distribution) -> float:
    """Return the size on disk of the files that the distribution installed."""
    paths = [Path(str(distribution.locate_file(file))) for file in distribution.files or []]
    return sum(path.stat().st_size for path in paths if path.exists()) / 1e6


def main() -> None:
    """Print one row per dependency."""
    extras: dict[str, list[str]] = {}
    for name, extra in direct_requirements():
        extras.setdefault(name, []).append(extra or "core")
    print("| Distribution | Extra | Version | Licence | MB |")
    print("|---|---|---|---|---:|")
    for name, used_by in extras.items():
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            print(f"| {name} | {', '.join(used_by)} | not installed | | |")
            continue
        licence, size = describe_licence(found), size_in_mb(found)
        print(f"| {name} | {', '.join(used_by)} | {found.version} | {licence} | {size:.1f} |")


if __name__ == "__main__":
    main()
