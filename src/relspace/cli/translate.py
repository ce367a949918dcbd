"""``relspace translate``: features of one model -> what another model's would be, on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relspace.cli.group import Progress, commands
from relspace.cli.inputs import Source, parse_sources
from relspace.cli.options import with_json
from relspace.cli.written_rows import Written, with_rows_written, write_rows

if TYPE_CHECKING:
    from relspace.rows.ledger import Resume
    from relspace.space.base import CommonSpace
    from relspace.space.translator import Translator


@commands.command(short_help="Translate features of one model into another's, on disk.")
@click.argument("space", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.argument("sources", nargs=-1, required=True, callback=parse_sources, metavar="FILE...")
@with_rows_written
@click.option(
    "--method",
    type=click.Choice(["auto", "procrustes", "ridge", "low-rank", "local"]),
    default="auto",
    show_default=True,
    help="How to translate; auto takes the one that does best on landmarks held out.",
)
@with_json
def translate(
    space: Path,
    a: str,
    b: str,
    sources: list[Source],
    output: str,
    force: bool,
    resume: Resume,
    dtype: str | None,
    memory_budget: int | None,
    device: str,
    scheduler: str | None,
    method: str,
    as_json: bool,
) -> None:
    """Predict the features that model B would have of items seen by model A, chunk by chunk.

    A and B are sets of a saved SPACE, whose landmarks the translation is fitted and judged on.
    FILE is as for "relspace transform", and so is how a run that was cut off is resumed.

    \b
    relspace translate space.safetensors old new vectors.npy -o translated.npy
    relspace translate space.safetensors clip dino tokens.zarr -o out.zarr --method ridge
    """
    fitted: list[Translator] = []

    def translator(opened: CommonSpace) -> Translator:
        progress.step(f"Fitting a translation of {a} to {b}")
        fitted.append(opened.translator(a, b, method))
        return fitted[0]

    with Progress() as progress:
        result = write_rows(
            translator,
            space,
            sources,
            progress,
            Written(output, force, resume, dtype, memory_budget, device, scheduler),
        )
    score = fitted[0].score_
    done = {
        "output": output,
        "n_items": result.shape[0],
        "n_features": result.shape[1],
        "score": score.to_dict(),
    }
    text = (
        f"{result.shape[0]} rows of {result.shape[1]} features saved to {output}\n"
        f"{score.method}, on {score.n_pairs} landmarks held out in turn: recall of the "
        f"{score.n_neighbors} nearest {score.recall:.3f}, chance {score.chance:.3f}, "
        f"R2 {score.r2:.3f}"
    )
    click.echo(json.dumps(done, indent=2) if as_json else text)
