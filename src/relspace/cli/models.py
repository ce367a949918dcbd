"""Models as named on the command line, and the options of their extraction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from relspace.cli.options import (
    give_options,
    refuse_same_names,
    with_random_state,
    with_resume,
)

if TYPE_CHECKING:
    from relspace.features import FeatureModel

_Command = TypeVar("_Command", bound=Callable[..., Any])

_LOADING = (
    *("device", "dtype", "image_size", "pooling", "prompt", "timestep", "random_state"),
    *("revision", "allow_pickle", "n_prefix_tokens", "layout"),
)
# What a model's name on the command line leaves out of its file's name.
_ENDINGS = (".zarr", ".onnx", ".pt2")
# The options of the command by what relspace.extract calls them.
_EXTRACTION = {
    **{key: key for key in ("layers", "batch_size", "store_dtype", "on_error", "resume")},
    "n_threads": "threads",
    "overwrite": "force",
}


def parse_layers(
    context: click.Context, parameter: click.Parameter, value: str
) -> str | list[str | int]:
    """Read ``all``, ``last``, or names and positions separated by commas."""
    if value in ("all", "last"):
        return value
    parts = [part.strip() for part in value.split(",")]
    if not all(parts):
        raise click.BadParameter(f"{value!r} is not of the form all, last or LAYER,LAYER,...")
    return [int(part) if part.lstrip("-").isdigit() else part for part in parts]


def parse_size(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> int | tuple[int, int] | None:
    """Read a side, or HEIGHTxWIDTH."""
    if value is None:
        return None
    parts = value.lower().split("x")
    if len(parts) > 2 or not all(part.isdigit() and int(part) for part in parts):
        raise click.BadParameter(f"{value!r} is not of the form SIDE or HEIGHTxWIDTH")
    sides = [int(part) for part in parts]
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def with_loading(command: _Command) -> _Command:
    """Give a command the options of loading models and choosing their layers."""
    options = [
        click.option(
            "--layers",
            default="all",
            show_default=True,
            callback=parse_layers,
            metavar="LAYERS",
            help="all, last, or positions and names separated by commas: 0,6,-1 or layer_3.key "
            "(also query, value, attention, mlp), *.key, output.",
        ),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda:0, ..."),
        click.option(
            "--dtype",
            type=click.Choice(["float32", "float16", "bfloat16"]),
            default="float32",
            show_default=True,
            help="What is computed in; below float32 by automatic mixed precision.",
        ),
        click.option(
            "--image-size",
            callback=parse_size,
            metavar="SIZE",
            help="Input of the models, a side or HEIGHTxWIDTH, instead of their own.",
        ),
        click.option(
            "--preprocessing",
            multiple=True,
            metavar="[MODEL=]NAME|FILE",
            help="How images are resized and normalised, instead of what is saved beside the "
            "model: imagenet, clip, half, lite, saliency, or a JSON file. Of several models one is "
            "named before an equals sign; may be repeated.",
        ),
        click.option(
            "--prefix-tokens",
            "n_prefix_tokens",
            type=click.IntRange(min=0),
            help="Files and networks whose layers are tokens: how many class and register tokens "
            "come before those of the grid.",
        ),
        click.option(
            "--layout",
            type=click.Choice(["bchw", "bhwc"]),
            help="Files and networks: axes of layers whose shape allows both.",
        ),
        click.option(
            "--pooling",
            type=click.Choice(["mean", "last", "first"]),
            default="mean",
            show_default=True,
            help="Texts: how tokens become one vector.",
        ),
        click.option("--prompt", help="Diffusion models: what the UNet is told; nothing if not."),
        click.option(
            "--timestep",
            type=click.IntRange(min=0),
            default=261,
            show_default=True,
            help="Diffusion models: step of the noise.",
        ),
        click.option("--revision", help="Branch, tag or commit on the hub."),
        click.option(
            "--allow-pickle", is_flag=True, help="Load weights that are saved as pickle only."
        ),
        with_random_state,
    ]
    return give_options(command, options)


def with_extraction(command: _Command) -> _Command:
    """Give a command the options of loading models and extracting their features."""
    options = [
        with_loading,
        click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True),
        click.option(
            "--store-dtype",
            type=click.Choice(["float16", "float32"]),
            default="float16",
            show_default=True,
            help="What features are stored in.",
        ),
        click.option(
            "--on-error",
            type=click.Choice(["raise", "skip"]),
            default="raise",
            show_default=True,
            help="What an image that can't be read does.",
        ),
        click.option(
            "--threads", type=click.IntRange(min=1), help="How many threads decode images."
        ),
        click.option(
            "--force", is_flag=True, help="Replace what is there and is of another extraction."
        ),
        with_resume,
    ]
    return give_options(command, options)


def named_models(models: Sequence[str]) -> dict[str, str]:
    """Give every model a name of its own: NAME of NAME=MODEL, or the last part of its path."""
    names, locations = [], []
    for value in models:
        name, equals, rest = value.partition("=")
        # A name holds no separator, so ./run=3 is always a path.
        if not equals or not name or any(mark in name for mark in "/\\"):
            rest = value
            name = _name_of(value)
        names.append(name)
        locations.append(rest)
    refuse_same_names(names, "models", locations[0])
    return dict(zip(names, locations, strict=True))


def _name_of(location: str) -> str:
    """Name a model by the last part of its path, or of its name in a catalogue."""
    catalogue, _, rest = location.partition(":")
    # Neither C:\\models nor s3://bucket.
    is_short = (
        rest and not rest.startswith("//") and len(catalogue) > 1 and catalogue.isidentifier()
    )
    if is_short and not Path(location).exists():
        location = rest.partition("/")[0] if catalogue == "open_clip" else rest
    name = Path(location.rstrip("/")).name
    return Path(name).stem if name.endswith(_ENDINGS) else name


def preprocessing_of(values: Sequence[str], models: Iterable[str]) -> dict[str, str | None]:
    """The preprocessing of every model: what is given for it by name, or else for all."""
    names = list(models)
    for_all: str | None = None
    named: dict[str, str] = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if equals and name in names:
            if name in named:
                raise click.UsageError(f"--preprocessing is given twice for {name!r}")
            named[name] = rest
        elif equals and not any(mark in name for mark in "/\\"):
            raise click.UsageError(
                f"--preprocessing is for {name!r}, and the models are {', '.join(names)}; a file "
                f"of this name is ./{value}"
            )
        elif for_all is not None:
            raise click.UsageError(
                f"--preprocessing is given twice for all models; for one it is {names[0]}={value}"
            )
        else:
            for_all = value
    return {name: named.get(name, for_all) for name in names}


def load_named(
    name: str, location: str, options: Mapping[str, Any], preprocessing: str | None
) -> FeatureModel:
    """Load a model under the name that it has on the command line."""
    import relspace

    model = relspace.load_model(location, **loading_options(options, preprocessing))
    model.name = name
    return model


def loading_options(options: Mapping[str, Any], preprocessing: str | None) -> dict[str, Any]:
    """What of the options goes to :func:`relspace.load_model`."""
    return {**{key: options[key] for key in _LOADING}, "preprocessing": preprocessing}


def extraction_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What of the options goes to :func:`relspace.extract`."""
    return {argument: options[option] for argument, option in _EXTRACTION.items()}
