"""Fits whose embedding is written: tokens are extended once, beside the output, then rotated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from relspace._core.device_copies import copies_for
from relspace._core.memory import chunk_slices
from relspace.embedding.extension import Extension
from relspace.embedding.orthonormal import DegreeGram
from relspace.errors import InvalidInputError
from relspace.kernels.precision import full_precision
from relspace.rows.ahead import read_blocks
from relspace.rows.fitted import Progress, write_begun
from relspace.rows.identity import identify
from relspace.rows.ledger import job_header, refuse_another_job
from relspace.rows.output import NpyWriter, ZarrWriter, remove_output
from relspace.rows.source import RowSource
from relspace.rows.transform import Output, begin_output, check_output

_CHECKPOINT_VERSION = 2
# Sums are taken over so many tokens at a time, a multiple of what DegreeGram takes.
_ROWS = 2**15


@dataclass(frozen=True)
class ExtendedRows:
    """Makes of tokens their extension before it is rotated, and in the last column the degrees."""

    extension: Extension

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.extension.device

    def __call__(self, rows: torch.Tensor, first: int | None) -> torch.Tensor:
        """Extend some tokens; ``first`` is the number of the first, for errors."""
        extended, degrees = self.extension.unrotated(self.extension.brought(rows, first or 0))
        return torch.cat([extended, degrees[:, None]], dim=1)


@dataclass(frozen=True)
class RotatedRows:
    """Makes of what :class:`ExtendedRows` made the embedding."""

    rotation: torch.Tensor

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.rotation.device

    @full_precision()
    def __call__(self, rows: torch.Tensor, first: int | None) -> torch.Tensor:
        """Rotate some rows."""
        found: torch.Tensor = rows[:, :-1].to(self.rotation) @ self.rotation
        return found


def write_embeddings(
    sources: Mapping[str, RowSource],
    extensions: Mapping[str, Extension],
    outputs: Mapping[str, Output],
    job_of: Callable[[Extension], Mapping[str, Any]],
    *,
    checkpoint: str | Path | None,
    client: Any,
    progress: Progress | None,
) -> tuple[torch.Tensor, dict[str, RowSource]]:
    """Write the embedding of all sets' tokens; what is there of the same job is resumed.

    Parameters
    ----------
    sources : mapping of str to RowSource
        The tokens.
    extensions : mapping of str to Extension
        What brings them in, rotated by nothing yet.
    outputs : mapping of str to Output
        Where each set's embedding goes; beside it lies, until all are written, its extension.
    job_of : callable
        What the output of an extension depends on, besides the tokens.
    checkpoint : str, Path or None
        A small file that keeps the sums over all tokens.
    client : distributed.Client or None
        A cluster that extends and rotates.
    progress : callable or None
        ``progress(n_done, n_tokens)`` after every part that is extended.

    Returns
    -------
    rotation : tensor of shape (k, k)
        What makes components orthonormal over all tokens.
    embedding : dict of str to RowSource
        What was written.
    """
    first = next(iter(extensions.values()))
    k, like = first.rotation.shape[0], first.rotation
    n_tokens = sum(one.shape[0] for one in sources.values())
    identities = {name: identify(source) for name, source in sources.items()}
    for name, source in sources.items():
        check_output(outputs[name], source, k, {}, identities[name])
    sums = DegreeGram.empty(k, like.device)
    job: dict[str, Any] = {f"tokens of {name}": one for name, one in identities.items()}
    job |= {f"graph of {name}": one.sha256() for name, one in extensions.items()}
    if checkpoint is not None and Path(checkpoint).exists():
        found, header = DegreeGram.load(checkpoint, like.device)
        trusted = all(one.resume == "trust" for one in outputs.values())
        try:
            refuse_another_job(
                checkpoint,
                header,
                job,
                format_version=_CHECKPOINT_VERSION,
                resume="trust" if trusted else "identified",
                called="checkpoint",
                ways_out=("name another file", "delete it"),
            )
            sums = found
        except InvalidInputError:
            # Outputs that are overwritten don't need the sums of another job.
            if not all(one.overwrite for one in outputs.values()):
                raise

    # Whatever is begun stays locked to the end, so that no other run writes what this one reads.
    with ExitStack() as locked:
        begun: dict[str, ZarrWriter | NpyWriter] = {}
        extended: dict[str, RowSource] = {}

        def extend(name: str, tell: Progress | None = None) -> RowSource:
            if name not in extended:
                compute = ExtendedRows(extensions[name])
                kind = str(like.dtype).removeprefix("torch.")
                # What another job left there, which was given up, is worth nothing.
                place = replace(_beside(outputs[name]), dtype=kind, overwrite=True)
                given = {"operation": "extension", "sha256": extensions[name].sha256()}
                begun[name] = begin_output(
                    place,
                    sources[name],
                    k + 1,
                    given,
                    compute.device,
                    columns="component",
                    with_ids=False,
                    identity=identities[name],
                )
                locked.enter_context(begun[name])
                extended[name] = write_begun(
                    begun[name], place, sources[name], compute, client, tell
                )
            return extended[name]

        if sums.done < n_tokens:
            sums = DegreeGram.empty(k, like.device)
            for name in sources:
                rows_of_set = extend(name, _shifted(progress, sums.done, n_tokens))
                parts = chunk_slices(rows_of_set.shape[0], _ROWS)
                with closing(read_blocks(rows_of_set, parts, copies_for(like.device))) as blocks:
                    for _, rows in blocks:
                        sums.add(rows[:, :-1], rows[:, -1])
            if checkpoint is not None:
                sums.save(checkpoint, job_header("sums over tokens", _CHECKPOINT_VERSION, job))
        rotation = sums.orthonormalizer().to(like)
        written = {}
        for name, source in sources.items():
            output = outputs[name]
            compute = RotatedRows(rotation)
            writer = begin_output(
                output,
                source,
                k,
                job_of(extensions[name].rotated(rotation)),
                compute.device,
                columns="component",
                identity=identities[name],
            )
            locked.enter_context(writer)
            if writer.missing():
                written[name] = write_begun(writer, output, extend(name), compute, client, None)
            else:
                written[name] = writer.finish()
        for name, output in outputs.items():
            remove_output(_beside(output).path, begun.get(name))
    return rotation, written


def _beside(output: Output) -> Output:
    folder, slash, name = str(output.path).rstrip("/").rpartition("/")
    stem, _, suffix = name.rpartition(".")
    return replace(output, path=f"{folder}{slash}.{stem}.extension.{suffix}")


def _shifted(progress: Progress | None, before: int, n_tokens: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(before + done, n_tokens)
