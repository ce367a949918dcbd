"""``relspace embed``: rows of one common space -> their joint embedding and colours, on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relspace._core.files import check_writable
from relspace.cli.group import Progress, commands
from relspace.cli.inputs import Source, named_sources, parse_sources, saved_space
from relspace.cli.options import (
    cluster_at,
    with_json,
    with_memory_budget,
    with_random_state,
    with_resume,
    with_scheduler,
)
from relspace.errors import InvalidInputError
from relspace.rows.locations import refuse_inputs

if TYPE_CHECKING:
    from relspace.rows.ledger import Resume


@commands.command(short_help="Embed and colour the rows of a common space, of any size.")
@click.argument(
    "sources", nargs=-1, required=True, callback=parse_sources, metavar="SPACE | A [B]..."
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Folder for what is made.",
)
@click.option(
    "--components",
    type=click.IntRange(min=2),
    default=16,
    show_default=True,
    help="How many components.",
)
@click.option(
    "--landmarks",
    type=click.IntRange(min=3),
    default=4096,
    show_default=True,
    help="How many rows are nodes of the graph; all, if there are fewer.",
)
@click.option(
    "--colors",
    "method",
    type=click.Choice(["spectral", "tsne", "umap"]),
    default="spectral",
    show_default=True,
    help="How components become colours.",
)
@with_random_state
@click.option("--force", is_flag=True, help="Replace the output of another job.")
@with_resume
@with_memory_budget(
    "What working memory besides the graph may take, such as 2GiB; by default a quarter of what "
    "is free."
)
@with_scheduler(reach="the files and FOLDER")
@with_json
def embed(
    sources: list[Source],
    output: Path,
    components: int,
    landmarks: int,
    method: str,
    random_state: int,
    force: bool,
    resume: Resume,
    memory_budget: int | None,
    scheduler: str | None,
    as_json: bool,
) -> None:
    """Embed rows of one common space jointly, and colour them: one concept, one colour.

    A is a space that "relspace align" saved, whose sets are embedded, or there are several sets,
    each [NAME=]FILE[::KEY], such as "relspace transform" writes: Zarr stores, .npy,
    .safetensors, .h5 and .parquet are read in parts, so that they may be larger than memory. For
    each set NAME there are then NAME.zarr, its normalized cut, and NAME-colors.zarr, sRGB in 0 to
    1; cut.safetensors and colors.safetensors take new rows into both. A run that was cut off is
    resumed where it stopped when the same command is given again, over files of the same content.

    \b
    relspace embed space.safetensors -o pictures
    relspace embed sam-aligned.zarr dino-aligned.zarr -o pictures
    relspace embed sam=a.npy dino=b.npy -o pictures --components 32 --memory-budget 2GiB
    relspace embed sam-aligned.zarr dino-aligned.zarr -o pictures --scheduler tcp://host:8786
    """
    space = saved_space(sources)
    named = {} if space is not None else named_sources(sources, at_least=1)
    names = list(space if space is not None else named)
    reserved = [name for name in names if f"{name}-colors" in names]
    if reserved:
        raise InvalidInputError(
            f"the colours of {reserved[0]!r} and another set would have one name; rename a set."
        )
    fitted = [output / "cut.safetensors", output / "colors.safetensors"]
    checkpoint = output / ".pass"
    stores = [output / f"{name}{end}.zarr" for name in names for end in ("", "-colors")]
    for path in (*stores, *fitted, checkpoint):
        refuse_inputs(path, [one.location for one in sources], called="a file in --output")
    check_writable(fitted[0])
    with Progress() as progress, cluster_at(scheduler, progress) as client:
        progress.step("Loading torch")
        import relspace
        from relspace.features import scan
        from relspace.rows.output import check_location

        for path in stores:
            check_location(path)
        rows = {name: scan(one.location, key=one.key) for name, one in named.items()}
        if space is not None:
            rows = {name: space.rows(name) for name in names}

        def outputs(suffix: str) -> dict[str, relspace.Output]:
            return {
                name: relspace.Output(
                    output / f"{name}{suffix}.zarr",
                    dtype="float32",
                    memory_budget=memory_budget,
                    overwrite=force,
                    resume=resume,
                )
                for name in names
            }

        cut = relspace.NormalizedCut(
            components, n_landmarks=landmarks, random_state=random_state
        ).fit(
            rows,
            out=outputs(""),
            memory_budget=memory_budget,
            checkpoint=checkpoint,
            client=client,
            progress=progress,
        )
        coloring = relspace.Coloring(method, random_state=random_state).fit(
            cut,
            out=outputs("-colors"),
            memory_budget=memory_budget,
            client=client,
            progress=progress,
        )
        cut.save(fitted[0])
        coloring.save(fitted[1])
    done: dict[str, Any] = {
        "sets": {name: one.shape[0] for name, one in rows.items()},
        "eigenvalues": cut.eigenvalues_.tolist(),
        "rank_correlation": coloring.rank_correlation_,
        "output": str(output),
    }
    text = (
        f"{sum(done['sets'].values())} rows of {', '.join(names)} in {components} components and "
        f"colours saved to {output}; rank correlation of their distances "
        f"{coloring.rank_correlation_:.2f}"
    )
    click.echo(json.dumps(done, indent=2) if as_json else text)
