"""The command that stores features of models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import relspace
from relspace.cli import commands

Saved = Callable[[str], Path]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["extract", *map(str, arguments), "--device", "cpu"])


def test_one_model(saved: Saved, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.zarr"
    done = run(saved("dinov2"), photos, "-o", out, "--layers", "0,-1,layer_2.key")
    assert (done.exit_code, done.stderr.splitlines()[0]) == (0, "Loading torch")
    assert "dinov2: 5 of 5" in done.stderr
    assert done.stdout.splitlines() == [
        "dinov2: 5 items",
        *("  layer_0: 4 x 4 x 32", "  layer_3: 4 x 4 x 32", "  layer_2.key: 4 x 4 x 32"),
        f"Stored in {out}",
    ]
    assert len(relspace.open_features(out)) == 5


def test_ids_are_read_from_a_text_file(saved: Saved, photos: Path, tmp_path: Path) -> None:
    ids, out = tmp_path / "ids.txt", tmp_path / "a.zarr"
    ids.write_text("4\n0\n3\n1\n2\n")
    options = ("-o", out, "--layers", "last", "--ids", ids)
    assert run(saved("dinov2"), photos, *options).exit_code == 0
    assert relspace.open_features(out).ids == (4, 0, 3, 1, 2)
    ids.write_text("a\nb\n")
    few = run(saved("dinov2"), photos, "-o", tmp_path / "b.zarr", *options[2:])
    assert few.exit_code == 2
    assert "2 ids" in few.stderr


def test_several_models_and_names(saved: Saved, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(
        f"first={saved('clip')}", saved("resnet"), photos, "-o", out, "--json", "--layers", "last"
    )
    stores = json.loads(done.stdout)["stores"]
    assert [one["model"] for one in stores] == ["first", "resnet"]
    assert [one["store"] for one in stores] == [str(out / "first.zarr"), str(out / "resnet.zarr")]
    assert stores[0]["layers"] == [{"name": "layer_3", "shape": "4 x 4 x 32"}]
    assert relspace.open_features(out / "first.zarr").metadata["model"] == "first"


def test_texts_and_another_size(saved: Saved, photos: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a red house\nthe bird sings\n")
    done = run(saved("gpt2"), texts, "-o", tmp_path / "t.zarr", "--pooling", "last")
    assert "layer_3: 32" in done.stdout
    done = run(saved("vit"), photos, "-o", tmp_path / "v.zarr", "--image-size", "64x48")
    assert "layer_3: 8 x 6 x 32" in done.stdout


def test_a_store_is_gone_on_with_refused_or_replaced(
    saved: Saved, photos: Path, tmp_path: Path
) -> None:
    arguments = (saved("vit"), photos, "-o", tmp_path / "a.zarr")
    assert run(*arguments).exit_code == 0
    again = run(*arguments)
    assert again.exit_code == 0
    assert "of 5," not in again.stderr
    other = run(*arguments, "--layers", "last")
    assert other.exit_code == 2
    assert other.stderr.splitlines()[-1].startswith("relspace: error:")
    assert "different are layers" in other.stderr
    assert run(*arguments, "--layers", "last", "--force").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model"], "name a model and its images"),
        (["a/model", "b/model", "photos"], "2 models are called 'model'"),
        (["model", "photos", "--layers", "1,,2"], "LAYER,LAYER"),
        (["model", "photos", "--image-size", "big"], "SIDE or HEIGHTxWIDTH"),
        (["model", "photos", "--image-size", "0x4"], "SIDE or HEIGHTxWIDTH"),
        (["./nothing", "photos"], "there is no folder ./nothing"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = run(*arguments, "-o", tmp_path / "a.zarr")
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
