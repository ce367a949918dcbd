"""Networks of timm, torchvision and OpenCLIP: stand-ins of their attributes, and the real ones."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

import relspace as rs
from relspace.cli import commands
from relspace.errors import (
    InvalidInputError,
    InvalidTypeError,
    MissingDependencyError,
    UnknownNameError,
)
from relspace.features.models import catalogues
from relspace.features.models.processors import MissingPreprocessingError, read_steps

TIMM = {
    "input_size": (3, 32, 32),
    "interpolation": "bilinear",
    "crop_pct": 0.9,
    "crop_mode": "center",
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.3, 0.4),
}
OPEN_CLIP = {
    "size": (32, 32),
    "mode": "RGB",
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.3, 0.4),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}


class Transform:
    """The attributes of torchvision's ImageClassification."""

    crop_size, resize_size = [32], [40]
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    interpolation = types.SimpleNamespace(value="bilinear")


class Patches(nn.Module):
    def __init__(self, d: int, side: int) -> None:
        super().__init__()
        self.img_size, self.grid_size = (side, side), (side // 8, side // 8)
        self.proj = nn.Conv2d(3, d, 8, stride=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class TimmViT(nn.Module):
    """What timm's vision transformers note: tokens before the grid, blocks, preprocessing."""

    def __init__(self, n_registers: int = 0, *, has_class: bool = True, side: int = 32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch_embed = Patches(6, side)
        self.cls_token = nn.Parameter(torch.ones(1, 1, 6)) if has_class else None
        self.reg_token = nn.Parameter(torch.zeros(1, n_registers, 6)) if n_registers else None
        self.num_prefix_tokens = n_registers + has_class
        self.blocks = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
        self.pretrained_cfg = TIMM
        self.feature_info = [{"module": f"blocks.{i}", "num_chs": 6} for i in range(2)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        prefix = [one for one in (self.cls_token, self.reg_token) if one is not None]
        tokens = torch.cat([*(p.expand(len(x), -1, -1) for p in prefix), self.patch_embed(x)], 1)
        return self.blocks(tokens)[:, 0]


class TimmSwin(nn.Module):
    """Maps with channels last, as many as rows."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.output_fmt = types.SimpleNamespace(value="NHWC")
        self.pretrained_cfg = TIMM

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).permute(0, 2, 3, 1)
        for one in self.layers:
            x = one(x)
        return x


class TorchvisionResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Conv2d(3, 4, 4, stride=4)
        self.layer2, self.layer3 = nn.Conv2d(4, 8, 2, stride=2), nn.Conv2d(8, 8, 1)
        self.layer4 = nn.Conv2d(8, 16, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))


class Tower(nn.Module):
    """The images' tower of OpenCLIP, or timm's inside of one."""

    def __init__(self, trunk: nn.Module | None = None) -> None:
        super().__init__()
        self.preprocess_cfg = OPEN_CLIP
        self.image_size = (32, 32)
        if trunk is not None:
            self.trunk = trunk
            return
        self.class_embedding = nn.Parameter(torch.ones(6))
        self.conv1 = nn.Conv2d(3, 6, 16, stride=16)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if "trunk" in dict(self.named_children()):
            return self.trunk(x)
        tokens = self.conv1(x).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(x), 1, -1)
        return self.transformer.resblocks(torch.cat([first, tokens], 1))[:, 0]


class OpenClip(nn.Module):
    def __init__(self, trunk: nn.Module | None = None) -> None:
        super().__init__()
        self.visual = Tower(trunk)
        self.transformer = nn.Linear(3, 3)


def shapes(network: nn.Module, **options: Any) -> dict[str, tuple[int, ...]]:
    summary = rs.describe_model(network, device="cpu", **options)
    return {one.name: one.shape for one in summary.layers}


@pytest.mark.parametrize(
    ("network", "options", "expected"),
    [
        (TimmViT(), {}, {"blocks.0": (4, 4, 6), "blocks.0.class": (6,), "blocks.1": (4, 4, 6)}),
        (TimmViT(4), {}, {"blocks.0": (4, 4, 6), "blocks.0.class": (6,)}),
        (TimmViT(4, has_class=False), {}, {"blocks.0": (4, 4, 6), "blocks.1": (4, 4, 6)}),
        (TimmViT(side=48), {}, {"blocks.0": (6, 6, 6)}),
        (TimmSwin(), {}, {"layers.0": (8, 8, 8), "layers.1": (8, 8, 8)}),
        (
            TorchvisionResNet(),
            {"preprocessing": Transform()},
            {"layer1": (8, 8, 4), "layer2": (4, 4, 8), "layer4": (2, 2, 16)},
        ),
        (OpenClip(), {}, {"transformer.resblocks.1": (2, 2, 6)}),
        (OpenClip(TimmViT()), {}, {"trunk.blocks.0": (4, 4, 6)}),
        (TorchvisionResNet(), {"preprocessing": "half", "image_size": 64}, {"layer1": (16, 16, 4)}),
    ],
)
def test_layers_and_grids_are_those_of_the_network(
    network: nn.Module, options: dict[str, Any], expected: dict[str, tuple[int, ...]]
) -> None:
    found = shapes(network, **options)
    assert {name: found[name] for name in expected} == expected
    has_class = any(name.endswith(".class") for name in found)
    named = getattr(network, "num_prefix_tokens", 0) and network.cls_token is not None
    assert has_class == bool(named or isinstance(network, OpenClip))


def test_tokens_are_those_of_the_patches_in_order() -> None:
    network = TimmViT(2)
    model = rs.load_model(network, device="cpu")
    image = np.random.default_rng(0).random((3, 32, 32), dtype=np.float32)
    found = model.forward([image], ["blocks.0"])
    with torch.no_grad():
        patches = network.patch_embed(torch.from_numpy(image)[None])
        wanted = network.blocks[0](patches).reshape(1, 4, 4, 6)
        of_class = network.blocks[0](network.cls_token[:, 0])
    torch.testing.assert_close(found["blocks.0"], wanted)
    torch.testing.assert_close(found["blocks.0.class"], of_class)


def test_channels_that_could_be_rows_are_last_where_the_network_says_so() -> None:
    network = TimmSwin()
    image = np.random.default_rng(0).random((3, 32, 32), dtype=np.float32)
    found = rs.load_model(network, device="cpu").forward([image], ["layers.0"])["layers.0"]
    with torch.no_grad():
        inputs = torch.from_numpy(image)[None]
        wanted = network.layers[0](network.patch(inputs).permute(0, 2, 3, 1))
    torch.testing.assert_close(found, wanted)


def test_a_network_goes_through_extract(photos: Path, tmp_path: Path) -> None:
    fs = rs.extract([TimmViT(), OpenClip()], photos, tmp_path, device="cpu")
    assert set(fs) == {"TimmViT", "OpenClip"}
    assert fs["TimmViT"]["blocks.1"].grid.rows == 4
    steps = fs["TimmViT"].metadata["preprocessing"]
    assert (steps["size"], steps["crop"], steps["mean"][0]) == ([35, 35], [32, 32], 0.5)
    again = rs.extract(TimmViT(), photos, tmp_path / "TimmViT.zarr", device="cpu")
    assert len(again) == len(fs["TimmViT"])


def test_what_a_network_does_not_say_is_asked_for() -> None:
    with pytest.raises(MissingPreprocessingError, match=r"weights\.transforms"):
        rs.load_model(TorchvisionResNet())
    with pytest.raises(InvalidTypeError, match="preprocessing is of type int"):
        rs.load_model(TorchvisionResNet(), preprocessing=3)
    with pytest.raises(InvalidTypeError, match=r"Linear has no list of blocks"):
        rs.load_model(nn.Linear(3, 3), preprocessing="half")
    with pytest.raises(InvalidInputError, match=r"takes images of 32 x 32.* makes 64 x 64"):
        rs.load_model(TimmViT(), image_size=64)
    unrolled = TimmViT()
    unrolled.unroll = nn.Identity()
    with pytest.raises(InvalidInputError, match="order of its windows"):
        rs.load_model(unrolled)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TIMM | {"crop_mode": "border"}, "'border'"),
        (TIMM | {"input_size": (3, 32, 48)}, "32 x 48"),
        (TIMM | {"interpolation": "random"}, "'random'"),
        (OPEN_CLIP | {"resize_mode": "longest", "fill_color": 255}, "'longest'"),
    ],
)
def test_steps_that_are_not_supported_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_steps(config)


def test_steps_of_configurations() -> None:
    squashed = read_steps(TIMM | {"crop_mode": "squash", "input_size": (3, 32, 48)})
    assert (squashed.fit, squashed.size, squashed.crop) == ("stretch", (35, 53), (32, 48))
    padded = read_steps(OPEN_CLIP | {"resize_mode": "longest"})
    assert padded(Image.new("RGB", (40, 20), "white"))[0].shape == (3, 32, 32)
    centred = read_steps(Transform())
    assert (centred.size, centred.crop, centred.resample) == ((40, 40), (32, 32), 2)
    # torchvision rounds half a pixel to the even one of the two.
    assert centred(Image.new("RGB", (40, 43)))[1].offset == (6, 4)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("timm", "torchvision", "torchvision.models", "open_clip"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match="pip install 'timm'"):
        rs.load_model("timm:resnet18")
    with pytest.raises(MissingDependencyError, match="pip install 'torchvision'"):
        rs.load_model("torchvision:resnet18")
    done = CliRunner().invoke(commands, ["model", "open_clip:ViT-B-32/openai"])
    assert done.exit_code == 2
    assert "pip install 'open_clip_torch'" in done.stderr


class TestNames:
    @pytest.fixture
    def timm(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        made: dict[str, Any] = {}

        def create_model(name: str, **options: Any) -> nn.Module:
            made[name] = options
            return TimmViT(side=options.get("img_size", 32))

        config = types.SimpleNamespace(hf_hub_id=None, fixed_input_size=True)
        stand_in = types.SimpleNamespace(
            list_models=lambda pretrained: ["vit_tiny.a", "vit_tiny.b", "resnet18.c"],
            models=types.SimpleNamespace(get_pretrained_cfg=lambda name: config),
            create_model=create_model,
        )
        monkeypatch.setitem(sys.modules, "timm", stand_in)
        return made

    def test_a_name_is_loaded_with_its_weights(self, timm: dict[str, Any]) -> None:
        model = rs.load_model("timm:vit_tiny", device="cpu", image_size=48)
        assert model.name == "vit_tiny"
        assert timm == {"vit_tiny": {"pretrained": True, "img_size": 48}}
        assert model.describe(["blocks.0"]).layers[0].shape == (6, 6, 6)

    def test_unknown_names_are_answered_with_near_ones(self, timm: dict[str, Any]) -> None:
        with pytest.raises(UnknownNameError, match=r"'vit_tini'; names like it are 'vit_tiny'"):
            rs.load_model("timm:vit_tini")
        with pytest.raises(InvalidInputError, match="write timm:NAME"):
            rs.load_model("timm:")

    def test_files_come_first_and_other_prefixes_are_plain(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert catalogues.split_name("hf:owner/model") == ("hf", "owner/model")
        assert catalogues.split_name("C:/models/vit") == ("", "C:/models/vit")
        (tmp_path / "timm:here").mkdir()
        assert catalogues.split_name("timm:here") == ("", "timm:here")
        pytest.importorskip("onnxruntime")
        with pytest.raises(InvalidInputError, match=r"there is no file none\.onnx"):
            rs.load_model("onnx:none.onnx")

    def test_what_has_to_be_downloaded_is_refused_at_once_without_a_network(
        self, timm: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        config = types.SimpleNamespace(hf_hub_id="timm/vit_tiny", fixed_input_size=True)
        sys.modules["timm"].models.get_pretrained_cfg = lambda name: config
        monkeypatch.setattr(catalogues, "hub_is_reachable", lambda: False)
        constants = pytest.importorskip("huggingface_hub.constants")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", tmp_path)
        with pytest.raises(InvalidInputError, match="the hub can't be reached"):
            rs.load_model("timm:vit_tiny")
        assert timm == {}
        (tmp_path / "models--timm--vit_tiny" / "snapshots" / "1").mkdir(parents=True)
        (tmp_path / "models--timm--vit_tiny" / "snapshots" / "1" / "model.safetensors").touch()
        assert rs.load_model("timm:vit_tiny", device="cpu").name == "vit_tiny"

    def test_commands_take_names(self, timm: dict[str, Any], photos: Path, tmp_path: Path) -> None:
        command = ["extract", "timm:vit_tiny", "b=timm:vit_tiny.a", str(photos), "-o"]
        done = CliRunner().invoke(commands, [*command, str(tmp_path), "--device", "cpu"])
        assert done.exit_code == 0, done.output
        assert {one.name for one in tmp_path.glob("*.zarr")} == {"vit_tiny.zarr", "b.zarr"}


def photo(size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", [(64, 48), (333, 517), (224, 300)])
@pytest.mark.parametrize("name", ["resnet18", "vgg11", "vit_tiny_patch16_224"])
def test_pixels_are_those_of_timm(name: str, size: tuple[int, int]) -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model(name, pretrained=False)
    config = timm.data.resolve_data_config({}, model=network)
    wanted = timm.data.create_transform(**config, is_training=False)(photo(size))
    model = rs.load_model(network, device="cpu")
    torch.testing.assert_close(torch.from_numpy(model.prepare(photo(size))[0]), wanted)


def test_features_are_those_of_timm() -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model("vit_tiny_patch16_224", pretrained=False).eval()
    image = np.random.default_rng(0).random((3, 224, 224), dtype=np.float32)
    found = rs.load_model(network, device="cpu").forward([image], ["blocks.3"])["blocks.3"]
    with torch.no_grad():
        (wanted,) = network.forward_intermediates(
            torch.from_numpy(image)[None], indices=[3], intermediates_only=True
        )
    torch.testing.assert_close(found, wanted.permute(0, 2, 3, 1))


@pytest.mark.parametrize("size", [(64, 48), (333, 517), (224, 300)])
def test_pixels_are_those_of_torchvision(size: tuple[int, int]) -> None:
    models = pytest.importorskip("torchvision").models
    transform = models.get_model_weights("resnet18").DEFAULT.transforms()
    model = rs.load_model(models.get_model("resnet18"), preprocessing=transform, device="cpu")
    found = torch.from_numpy(model.prepare(photo(size))[0])
    torch.testing.assert_close(found, transform(photo(size)))
    assert len(model.layers) == 4


@pytest.mark.parametrize("size", [(64, 48), (333, 517), (224, 300)])
def test_pixels_are_those_of_open_clip(size: tuple[int, int]) -> None:
    open_clip = pytest.importorskip("open_clip")
    network, _, transform = open_clip.create_model_and_transforms("ViT-B-32")
    model = rs.load_model(network, device="cpu")
    found = torch.from_numpy(model.prepare(photo(size))[0])
    torch.testing.assert_close(found, transform(photo(size)))
    assert model.describe(["transformer.resblocks.0"]).layers[0].shape == (7, 7, 768)
