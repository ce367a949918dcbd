"""The command that does all of it: models and images in, one page out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tests.features.models.test_networks import TimmViT
from tests.generators.onnx_models import save_onnx

import relspace
from relspace.cli import commands

Saved = Callable[[str], Path]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve smooth random images."""
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    for i in range(12):
        coarse = Image.fromarray(rng.integers(0, 255, size=(6, 6, 3), dtype=np.uint8))
        coarse.resize((60, 44 + i), 3).save(folder / f"scene_{i:02d}.png")
    return folder


def run(*arguments: object) -> Result:
    given = ["compare-models", *map(str, arguments), "--permutations", "9"]
    return CliRunner().invoke(commands, [*given, "--device", "cpu"])


def test_two_models_become_a_page(saved: Saved, scenes: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    arguments = (saved("dinov2"), saved("resnet"), scenes, "-o", page, "--layers", "0,-1")
    done = run(*arguments)
    assert done.exit_code == 0, done.stderr
    store = tmp_path / "page-features" / "dinov2.zarr"
    assert f"dinov2: 12 items, 2 layers, {store}" in done.stdout
    assert f"Report: {page}" in done.stdout
    text = page.read_text()
    assert all(name in text for name in ("dinov2", "resnet", "layer_3", "scene_00.png"))
    assert "One concept, one colour" in text
    assert "page.html', which exists: overwrite it with --force" in run(*arguments).stderr
    # A second run reads the features that are there.
    again = run(*arguments, "--panel", tmp_path / "panel.png", "--json", "--force")
    assert "of 12," not in again.stderr
    assert (tmp_path / "panel.png").read_bytes().startswith(b"\x89PNG")
    # What is printed is what the JSON holds.
    found = json.loads(again.stdout)
    assert found["report"] == str(page)
    assert found["panel"] == str(tmp_path / "panel.png")
    assert found["stores"]["dinov2"] == str(store)
    values = np.array(found["comparison"]["values"])
    (pair,) = found["pairs"]
    assert pair["models"] == ["dinov2", "resnet"]
    assert pair["most_alike"]["value"] == values.max()
    assert pair["last"]["value"] == values[-1, -1]
    assert pair["last"]["value"] > pair["last"]["chance"] + 0.1
    assert pair["last"]["p_value"] == 0.1
    lines = [line.split() for line in done.stdout.splitlines()]
    for title, one in (("most alike layers", "most_alike"), ("last layers", "last")):
        # 9 permutations are too few for a calibrated score.
        assert pair[one]["calibrated"] is None
        numbers = [*(f"{pair[one][key]:.4f}" for key in ("value", "chance")), "0.1"]
        names = [pair[one]["layer"], pair[one]["match"]]
        assert [*title.split(), *names, *numbers] in lines


def test_an_onnx_file_and_a_network_of_timm_become_a_page(scenes: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    relspace.extract(TimmViT(), scenes, tmp_path / "vit.zarr", device="cpu")
    save_onnx(tmp_path / "graph.onnx")
    models = (tmp_path / "vit.zarr", tmp_path / "graph.onnx")
    page = tmp_path / "page.html"
    done = run(*models, scenes, "-o", page, "--preprocessing", "graph=imagenet", "--json")
    assert done.exit_code == 0, done.stderr
    (pair,) = json.loads(done.stdout)["pairs"]
    assert pair["models"] == ["vit", "graph"]
    assert np.isfinite(json.loads(done.stdout)["comparison"]["values"]).all()
    text = page.read_text()
    assert all(name in text for name in ("vit", "graph", "blocks.1", "block", "scene_00.png"))


def test_several_models_names_and_stores(saved: Saved, scenes: Path, tmp_path: Path) -> None:
    store = tmp_path / "given.zarr"
    relspace.extract(saved("clip"), scenes, store, layers="last", device="cpu")
    done = run(
        *(f"first={saved('vit')}", store, scenes, "--models", f"third={saved('siglip')}"),
        *("-o", tmp_path / "page.html", "--features", tmp_path / "kept", "--layers", "last"),
    )
    assert done.exit_code == 0, done.stderr
    titled = [line.partition(":")[0] for line in done.stdout.splitlines() if ": " in line]
    assert titled == ["first", "given", "third", "Report"]
    # One pair of last layers for every two models.
    assert sum(line.startswith("last layers") for line in done.stdout.splitlines()) == 3
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [
        *("first.zarr", "third.zarr"),
    ]


def test_text_models(saved: Saved, tmp_path: Path) -> None:
    from tests.generators.tiny_models import WORDS

    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(f"the {a} {b}" for a in WORDS[2:6] for b in WORDS[6:10]))
    done = run(saved("bert"), saved("gpt2"), texts, "-o", tmp_path / "page.html")
    assert done.exit_code == 0, done.stderr
    assert "bert: 16 items, 4 layers" in done.stdout
    assert "Affinity, 16 rows, matched by position; 9 permutations" in done.stdout
    panel = (saved("bert"), saved("gpt2"), texts, "-o", tmp_path / "2.html", "--panel", "p.png")
    refused = run(*panel)
    assert refused.exit_code == 2
    assert "--panel is of patches of images" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model", "photos"], "name two models or more"),
        (["a", "b", "photos", "-o", "page.pdf"], "a report is a file that ends in .html"),
        (["a", "x/a", "photos"], "2 models are called 'a'"),
        (["a", "b", "photos", "--panel", "p.jpg"], "a panel is a file that ends in .png"),
        (["a", "b", "photos", "--measure", "likeness"], "likeness"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_sets_with_and_without_ids_are_matched_by_position(
    saved: Saved, scenes: Path, tmp_path: Path
) -> None:
    images = [np.asarray(Image.open(path)) for path in sorted(scenes.glob("*.png"))]
    stores = [tmp_path / "a.zarr", tmp_path / "b.zarr"]
    for store, items in zip(stores, (scenes, images), strict=True):
        relspace.extract(saved("vit"), items, store, layers="last", device="cpu")
    arguments = (*stores, scenes, "-o", tmp_path / "page.html")
    refused = run(*arguments)
    assert refused.exit_code == 2
    assert "--by-position" in refused.stderr
    done = run(*arguments, "--by-position")
    assert done.exit_code == 0, done.stderr
    assert "matched by position" in done.stdout


def test_no_input_is_overwritten(saved: Saved, scenes: Path, tmp_path: Path) -> None:
    store = tmp_path / "b.zarr"
    relspace.extract(saved("clip"), scenes, store, layers="last", device="cpu")
    png = next(scenes.glob("*.png"))
    before = {path: path.read_bytes() for path in (png, *store.rglob("*.json"))}
    for more, message in (
        (("-o", store / "page.html"), "lies in"),
        (("-o", tmp_path / "page.html", "--panel", png, "--force"), "--panel is"),
    ):
        refused = run(f"a={store}", saved("vit"), scenes, *more)
        assert refused.exit_code == 2
        assert message in refused.stderr
    # The store of a model must not replace that of another.
    more = ("-o", tmp_path / "page.html", "--features", tmp_path, "--force")
    refused = run(f"a={store}", f"b={saved('vit')}", scenes, *more)
    assert refused.exit_code == 2
    assert "the store of 'b' is" in refused.stderr
    assert {path: path.read_bytes() for path in before} == before
