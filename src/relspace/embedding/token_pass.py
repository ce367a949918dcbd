"""One pass over the tokens of all sets, which computes orthonormal components.

Every token is read once, so tokens are always read in blocks: holding them would not save reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from relspace._core.device_copies import copies_for
from relspace._core.memory import chunk_slices
from relspace._core.progress import Listener, prefixed, shifted
from relspace.embedding.extension import ExtendedRows, Extension, RotatedRows
from relspace.embedding.orthonormal import DegreeGram
from relspace.errors import InvalidInputError
from relspace.rows.ahead import prefetched
from relspace.rows.identity import Identity, identify
from relspace.rows.ledger import job_header, refuse_another_job
from relspace.rows.output import NpyWriter, Output, ZarrWriter, remove_output
from relspace.rows.row_map import RowFunction
from relspace.rows.source import RowSource
from relspace.rows.transform import begin_output, check_output, collect_rows, write_rows

_CHECKPOINT_VERSION = 2
# Tokens that are read at a time for sums, a multiple of what DegreeGram adds at a time.
_ROWS = 2**15


def hold_embeddings(
    sources: Mapping[str, RowSource],
    extensions: Mapping[str, Extension],
    *,
    budget: int,
    tell: Listener,
) -> tuple[torch.Tensor, Iterator[tuple[str, torch.Tensor]]]:
    """Embed all sets' tokens in memory, read in blocks of ``budget`` bytes.

    ``extensions`` are those of each set without a rotation. The result is the rotation (k, k) that
    makes components orthonormal over all tokens, and an iterator over the embeddings of the sets,
    so that only one of them is held twice.
    """
    like = next(iter(extensions.values())).rotation
    k = like.shape[0]
    sums = DegreeGram.empty(k, like.device)
    n_tokens = sum(one.shape[0] for one in sources.values())
    held = {}
    for name, source in sources.items():
        extended = collect_rows(
            source,
            ExtendedRows(extensions[name]),
            k + 1,
            like.dtype,
            memory_budget=budget,
            device=like.device,
            tell=shifted(tell, sums.done, n_tokens, "Embedding tokens"),
        )
        held[name] = extended.to(like.device)
        sums.add(held[name])
    rotation = sums.orthonormalizer().to(like)
    rotate = RotatedRows(rotation)
    return rotation, ((name, rotate(held.pop(name), None)) for name in sources)


def write_embeddings(
    sources: Mapping[str, RowSource],
    extensions: Mapping[str, Extension],
    outputs: Mapping[str, Output],
    job_of: Callable[[Extension], Mapping[str, Any]],
    *,
    checkpoint: str | Path | None,
    client: Any,
    tell: Listener,
) -> tuple[torch.Tensor, dict[str, RowSource]]:
    """Write the embedding of all sets' tokens, or resume an interrupted run of the same job.

    The extension without the rotation is kept beside each output until all are written. ``job_of``
    gives what the output of an extension depends on besides the tokens, and ``checkpoint`` is a
    small file with the sums over all tokens. The result is as for :func:`hold_embeddings`.
    """
    like = next(iter(extensions.values())).rotation
    k = like.shape[0]
    identities = {name: identify(source) for name, source in sources.items()}
    for name, source in sources.items():
        check_output(outputs[name], source, k, {}, identities[name])
    job: dict[str, Any] = {f"tokens of {name}": one for name, one in identities.items()}
    job |= {f"graph of {name}": one.sha256() for name, one in extensions.items()}
    sums = None
    if checkpoint is not None and Path(checkpoint).exists():
        sums = _sums_of(checkpoint, job, outputs, like.device)
    # Outputs are locked to the end, because this run reads what it wrote.
    with ExitStack() as locked:
        pass_ = _Pass(sources, extensions, outputs, identities, client, locked)
        if sums is None:
            sums = pass_.sum_up(DegreeGram.empty(k, like.device), tell)
            if checkpoint is not None:
                sums.save(checkpoint, job_header("sums over tokens", _CHECKPOINT_VERSION, job))
        rotation = sums.orthonormalizer().to(like)
        written = {}
        for name in sources:
            rotated = job_of(extensions[name].rotated(rotation))
            written[name] = pass_.write(
                name, RotatedRows(rotation), k, rotated, prefixed(tell, name)
            )
        pass_.remove_extensions()
    return rotation, written


def _sums_of(
    checkpoint: str | Path,
    job: Mapping[str, Any],
    outputs: Mapping[str, Output],
    device: torch.device,
) -> DegreeGram | None:
    """The sums in the checkpoint of an earlier call of the same job."""
    sums, header = DegreeGram.load(checkpoint, device)
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
    except InvalidInputError:
        # Outputs that are overwritten don't need the sums of another job.
        if not all(one.overwrite for one in outputs.values()):
            raise
        return None
    return sums


@dataclass(frozen=True)
class _Pass:
    """The outputs of one call, which are locked, and the extensions that were needed."""

    sources: Mapping[str, RowSource]
    extensions: Mapping[str, Extension]
    outputs: Mapping[str, Output]
    identities: Mapping[str, Identity]
    client: Any
    locked: ExitStack
    begun: dict[str, ZarrWriter | NpyWriter] = field(default_factory=dict)
    extended: dict[str, RowSource] = field(default_factory=dict)

    def extend(self, name: str, tell: Listener) -> RowSource:
        """Write the extension of a set's tokens before the rotation, and their degrees."""
        if name not in self.extended:
            one = self.extensions[name]
            width = one.rotation.shape[0] + 1
            kind = str(one.rotation.dtype).removeprefix("torch.")
            # The extension of another job is of no use, since that job was abandoned.
            output = replace(_beside(self.outputs[name]), dtype=kind, overwrite=True)
            job = {"operation": "extension", "sha256": one.sha256()}
            compute = ExtendedRows(one)
            self.begun[name] = self._begin(name, output, compute, width, job, with_ids=False)
            self.extended[name] = write_rows(
                *(self.sources[name], compute, self.begun[name]),
                *(tell, compute.device, self.client),
            )
        return self.extended[name]

    def sum_up(self, sums: DegreeGram, tell: Listener) -> DegreeGram:
        """Extend all sets, and sum over their tokens."""
        n_tokens = sum(one.shape[0] for one in self.sources.values())
        copies = copies_for(sums.gram.device)
        for name in self.sources:
            rows_of_set = self.extend(name, shifted(tell, sums.done, n_tokens, "Embedding tokens"))
            parts = chunk_slices(rows_of_set.shape[0], _ROWS)
            with prefetched(rows_of_set, parts, copies) as blocks:
                for _, rows in blocks:
                    sums.add(rows)
        return sums

    def write(
        self,
        name: str,
        compute: RotatedRows,
        n_columns: int,
        job: Mapping[str, Any],
        tell: Listener,
    ) -> RowSource:
        """Write a set's embedding, unless it is complete."""
        output = self.outputs[name]
        writer = self._begin(name, output, compute, n_columns, job)
        if not writer.missing():
            return writer.finish()
        extended = self.extend(name, tell)
        return write_rows(extended, compute, writer, tell, compute.device, self.client)

    def remove_extensions(self) -> None:
        """Remove the extensions."""
        for name, output in self.outputs.items():
            remove_output(_beside(output).path, self.begun.get(name))

    def _begin(
        self,
        name: str,
        output: Output,
        compute: RowFunction,
        n_columns: int,
        job: Mapping[str, Any],
        *,
        with_ids: bool = True,
    ) -> ZarrWriter | NpyWriter:
        writer = begin_output(
            output,
            self.sources[name],
            n_columns,
            job,
            compute.device,
            columns="component",
            with_ids=with_ids,
            identity=self.identities[name],
        )
        self.locked.enter_context(writer)
        return writer


def _beside(output: Output) -> Output:
    folder, slash, name = str(output.path).rstrip("/").rpartition("/")
    stem, _, suffix = name.rpartition(".")
    return replace(output, path=f"{folder}{slash}.{stem}.extension.{suffix}")
