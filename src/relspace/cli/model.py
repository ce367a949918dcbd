"""``relspace model``: a model's layers, shapes and parameters, before extraction."""

from __future__ import annotations

import json
from typing import Any

import click

from relspace.cli.group import Progress, commands
from relspace.cli.models import loading_options, named_models, preprocessing_of, with_loading


@commands.command(short_help="List a model's layers and what would be extracted.")
@click.argument("model", metavar="MODEL")
@with_loading
@click.option("--json", "as_json", is_flag=True, help="Print the layers as JSON.")
def model(model: str, as_json: bool, **options: Any) -> None:
    """List a model's layers with their grids, features and parameters; no images are needed.

    MODEL is what ``relspace extract`` takes. --layers says which layers, as there; names of all
    others that may be asked for are in what --json prints.

    \b
    relspace model facebook/dinov2-base
    relspace model u2netp.onnx --layers "Add_4*"
    """
    ((name, location),) = named_models([model]).items()
    preprocessing = preprocessing_of(options["preprocessing"], [name])[name]
    with Progress() as progress:
        progress.step("Loading torch")
        import relspace

        progress.step(f"Loading {location}")
        summary = relspace.describe_model(
            location, options["layers"], **loading_options(options, preprocessing)
        )
    click.echo(json.dumps(summary.to_dict() | {"name": name}, indent=2) if as_json else summary)
