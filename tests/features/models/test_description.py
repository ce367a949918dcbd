"""What a model is said to hold, without images: the shapes of what would be extracted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.generators.onnx_models import SIDE, save_onnx
from torch import nn

import relspace as rs
from relspace.cli import commands
from relspace.errors import InvalidInputError, UnknownNameError

Saved = Callable[[str], Path]
TEXTS = ["a red house", "the bird sings"]


def shapes_in_store(fs: rs.FeatureSet) -> dict[str, tuple[int, ...]]:
    found = {}
    for name in (*fs.layers, *fs.vectors):
        grid = fs[name].grid
        d = fs[name].shape[1]
        found[name] = (d,) if grid is None else (grid.rows, grid.columns, d)
    return found


@pytest.mark.parametrize("kind", ["dinov2_registers", "sam", "resnet", "bert", "diffusion"])
def test_shapes_are_those_that_are_extracted(
    saved: Saved, photos: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "diffusion":
        pytest.importorskip("diffusers")
    model = rs.load_model(saved(kind), device="cpu")
    summary = rs.describe_model(model)
    items = TEXTS if model.modality == "text" else photos
    fs = rs.extract(model, items, tmp_path / "f.zarr")
    assert {one.name: one.shape for one in summary.layers} == shapes_in_store(fs)
    assert [one.name for one in summary.layers if one.beside] == list(fs.vectors)
    assert summary.n_parameters == sum(one.numel() for one in model.module.parameters())
    assert json.loads(json.dumps(summary.to_dict()))["layers"][0]["name"] == fs.layers[0]


def test_parameters_are_those_of_the_block_that_gives_a_layer(saved: Saved) -> None:
    summary = rs.describe_model(saved("vit"), ["layer_0", "layer_1", "layer_1.key", "output"])
    counts = {one.name: one.n_parameters for one in summary.layers}
    # 32 features: four projections of attention, two of the MLP, two norms, all with biases.
    block = 4 * (32 * 32 + 32) + 2 * 32 * 64 + 64 + 32 + 4 * 32
    assert counts["layer_1"] == block
    assert counts["layer_1.key"] == 32 * 32 + 32
    assert counts["layer_0"] is None
    assert counts["output"] is None
    assert "layer_3.mlp" in summary.others
    assert "output" not in summary.others


def test_what_a_block_does_not_show_is_not_offered(saved: Saved) -> None:
    others = rs.describe_model(saved("gpt2")).others
    assert "layer_1.mlp" in others
    assert not [one for one in others if one.endswith(".key")]


def test_files_say_what_they_hold_without_preprocessing(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = save_onnx(tmp_path / "small.onnx")
    summary = rs.describe_model(path)
    assert [(one.name, one.grid) for one in summary.layers] == [("block", (8, 8))]
    assert summary.input_size == (SIDE, SIDE)
    assert summary.preprocessing is None
    assert summary.n_parameters == 6 * 3 * 4 + 6 * 6 * 9 + 4 * 6
    assert summary.others == ("down", "same", "t4", "pooled", "logits")
    assert "Its preprocessing is not saved" in str(summary)
    given = rs.describe_model(path, ["do*"], preprocessing="half")
    assert given.preprocessing is not None
    assert [one.name for one in given.layers] == ["down"]
    with pytest.raises(UnknownNameError, match=r"no node or tensor 'blok'.*like it are 'block'"):
        rs.describe_model(path, ["blok"])


def test_the_summary_is_a_table_in_notebooks_too(saved: Saved) -> None:
    summary = rs.describe_model(saved("bert"))
    assert str(summary).splitlines()[0].startswith("bert (text, BertModel): takes texts, ")
    assert "<td" in summary._repr_html_()
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(2))
    model = rs.ModuleModel(network, "1", preprocessing=rs.Preprocessing(size=(8, 8)))
    with pytest.raises(InvalidInputError, match="class and register tokens"):
        rs.describe_model(model)


class TestCommand:
    def run(self, *arguments: object) -> Result:
        return CliRunner().invoke(commands, ["model", *map(str, arguments), "--device", "cpu"])

    def test_table_and_json(self, saved: Saved) -> None:
        done = self.run(saved("convnext"))
        assert done.exit_code == 0, done.output
        lines = done.stdout.splitlines()
        assert lines[0].startswith("convnext (ConvNeXt, ConvNextModel): takes images of 64 x 64, ")
        assert lines[2].split() == ["layer", "grid", "features", "parameters"]
        assert lines[3].split()[:5] == ["layer_0", "16", "x", "16", "16"]
        found = json.loads(self.run(f"a={saved('convnext')}", "--layers", "-1", "--json").stdout)
        assert found["name"] == "a"
        assert [(one["name"], one["grid"], one["beside"]) for one in found["layers"]] == [
            ("layer_3", [4, 4], False),
            ("pooled", None, True),
        ]

    def test_wrong_names_are_answered_with_what_there_is(self, saved: Saved) -> None:
        done = self.run(saved("vit"), "--layers", "layer_9")
        assert done.exit_code == 2
        assert "has no layer 'layer_9'; it has 'layer_0'" in done.stderr
