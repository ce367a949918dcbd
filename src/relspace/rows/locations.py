"""Where files lie: paths, and URLs that fsspec reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relspace.errors import MissingDependencyError


def is_url(path: str | Path) -> bool:
    """Whether a location is one that fsspec reaches, not a path."""
    return isinstance(path, str) and "://" in path


def located(path: str | Path) -> str | Path:
    """A URL that fsspec reaches as it is, and a path, which ``file://`` stands for too."""
    if isinstance(path, str) and path.startswith("file://"):
        return Path(path.removeprefix("file://"))
    return path if is_url(path) else Path(path)


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, which asks anew what is there, and the path in it."""
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        raise missing_file_system(url, error) from error
    system.invalidate_cache()
    return system, path


def missing_file_system(path: str | Path, error: ImportError) -> MissingDependencyError:
    """The error for a URL whose file system needs a package that is not installed."""
    return MissingDependencyError(
        f"{path} lies where fsspec needs a package to reach it ({str(error).rstrip('.')}): pip "
        "install s3fs for s3://, gcsfs for gs://, aiohttp for http:// and https://."
    )
