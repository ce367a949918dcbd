"""``relspace report``: pages from saved spaces and from feature stores, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import relspace
from relspace.cli import commands


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    relspace.align({"left": X, "right": X.flip(1)}).save("space.safetensors")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["report", *arguments], prog_name="relspace")


def test_a_saved_space_becomes_one_page(folder: Path) -> None:
    result = run(
        "space.safetensors", "-o", "page.html", "--title", "A title", "--permutations", "9"
    )
    assert result.exit_code == 0, result.output
    assert result.stdout == "Report: page.html (0.1 MB)\n"
    html = (folder / "page.html").read_text()
    assert "<h1>A title</h1>" in html
    assert "How alike the relative features of left and right are" in html


def test_stores_at_urls_become_a_page(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 4, 4), torch.nn.Tanh())
    preprocessing = relspace.Preprocessing(size=(8, 8))
    model = relspace.ModuleModel(network, ["1"], layout="bchw", preprocessing=preprocessing)
    urls = [f"memory://reports/{name}.zarr" for name in "ab"]
    for url in urls:
        relspace.extract(model, torch.rand(6, 8, 8, 3).numpy(), url, overwrite=True)
    page = tmp_path / "page.html"
    result = run(*urls, "-o", str(page), "--permutations", "9")
    assert result.exit_code == 2
    assert "memory://reports/b.zarr" in result.stderr
    assert "row 0 of a and row 0 of b are different items" in result.stderr
    result = run(f"a={urls[0]}", f"b={urls[0]}", "-o", str(page), "--permutations", "9")
    assert result.exit_code == 0, result.stderr
    assert page.exists()


def test_a_page_is_overwritten_only_by_force(folder: Path) -> None:
    (folder / "page.html").write_text("mine")
    result = run("space.safetensors", "-o", "page.html")
    assert result.exit_code == 2
    assert "overwrite it with --force" in result.stderr
    assert (folder / "page.html").read_text() == "mine"
    assert run("space.safetensors", "-o", "page.html", "--force").exit_code == 0
    assert (folder / "page.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["space.safetensors", "-o", "page.pdf"], "a report is a file that ends in .html"),
        (["nowhere.safetensors"], "there is no file nowhere.safetensors"),
        (["memory://gone/a.safetensors"], "memory://gone/a.safetensors is a URL"),
        (
            ["memory://gone/a.zarr", "memory://gone/b.zarr"],
            "there is no Zarr array or group at memory://gone/a.zarr",
        ),
        (["space.safetensors", "--images", "nowhere"], "there is no folder or file nowhere"),
    ],
)
def test_what_can_not_be_done_is_said_in_a_line(
    folder: Path, arguments: list[str], message: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert not (folder / "report.html").exists()


@pytest.fixture
def stores(folder: Path) -> list[str]:
    """Two models' features of six photographs."""
    rng = np.random.default_rng(0)
    Path("photos").mkdir()
    for i in range(6):
        pixels = rng.integers(0, 255, size=(24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"photos/{i}.png")
    for name, stride in (("fine", 4), ("coarse", 6)):
        torch.manual_seed(stride)
        network = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, stride, stride), torch.nn.Conv2d(8, 10, 1)
        )
        model = relspace.ModuleModel(
            network,
            ["0", "1"],
            layout="bchw",
            preprocessing=relspace.Preprocessing(size=(24, 24)),
        )
        relspace.extract(model, "photos", out=f"{name}.zarr")
    return ["small=fine.zarr", "coarse.zarr"]


def data_of(page: str) -> Any:
    html = Path(page).read_text()
    return json.loads(
        html.split('<script type="application/json" id="report-data">')[1].split("</")[0]
    )


def test_stores_of_several_models_become_a_page_of_all_their_layers(stores: list[str]) -> None:
    result = run(*stores, "-o", "page.html", "--images", "photos", "--permutations", "9")
    assert result.exit_code == 0, result.output
    assert "<h1>small and coarse</h1>" in Path("page.html").read_text()
    data = data_of("page.html")
    assert [one["name"] for one in data["models"]] == ["small", "coarse"]
    assert [[layer["name"] for layer in one["layers"]] for one in data["models"]] == [
        ["0", "1"]
    ] * 2


def test_a_space_and_what_was_aligned_give_the_colours_before(stores: list[str]) -> None:
    sets = {
        name: relspace.open_features(f"{file}.zarr")
        for name, file in {"small": "fine", "coarse": "coarse"}.items()
    }
    relspace.align(sets, landmarks=60).save("tokens.safetensors")
    given = [word for store in stores for word in ("--features", store)]
    result = run("tokens.safetensors", *given, "-o", "page.html", "--permutations", "0")
    assert result.exit_code == 0, result.output
    for model in data_of("page.html")["models"]:
        assert set(model["layers"][0]["colors"]) == {"joint", "per model", "before"}
