"""Vision families, from disk through the real path, beside a direct forward pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.generators.tiny_models import VISION

import relspace
from relspace.errors import InvalidInputError, UnknownNameError
from relspace.features import Preprocessing, TokenGrid, read_positions, token_positions
from relspace.features.models.vision import VisionModel

Saved = Callable[[str], Path]
PREFIX = {"vit": 1, "dino": 1, "mae": 1, "dinov2": 1, "dinov2_registers": 5, "dinov3": 5, "clip": 1}
TRANSFORMERS = [*PREFIX, "siglip"]


def load(saved: Saved, family: str, **options) -> VisionModel:
    model = relspace.load_model(saved(family), device="cpu", **options)
    assert isinstance(model, VisionModel)
    return model


def inputs_of(model: VisionModel, photos: Path) -> list[np.ndarray]:
    images = [Image.open(path).convert("RGB") for path in sorted(photos.iterdir())]
    return [model.prepare(image)[0] for image in images]


@pytest.mark.parametrize("family", VISION)
def test_layers_are_the_hidden_states_of_a_direct_pass(
    saved: Saved, photos: Path, family: str
) -> None:
    model = load(saved, family)
    inputs = inputs_of(model, photos)
    features = model.forward(inputs, model.layers)
    arguments = {}
    if family == "mae":
        arguments["noise"] = torch.arange(16.0)[None].expand(len(inputs), -1)
    with torch.inference_mode():
        direct = model.module(
            torch.from_numpy(np.stack(inputs)), output_hidden_states=True, **arguments
        )
    states = direct.hidden_states
    if family.startswith("sam2"):
        # Sam 2 gives the ends of its four stages, of 1, 2, 2 and 1 blocks.
        states = [features["layer_0"], *states] if len(states) == 6 else states
    assert len(model.layers) == len(states)
    for name, state in zip(model.layers, states, strict=True):
        if family in TRANSFORMERS:
            prefix = PREFIX.get(family, 0)
            torch.testing.assert_close(features[name].flatten(1, 2), state[:, prefix:])
            if prefix:
                torch.testing.assert_close(features[f"{name}.class"], state[:, 0])
        elif family.startswith("sam"):
            torch.testing.assert_close(features[name], state)
        else:
            torch.testing.assert_close(features[name], state.permute(0, 2, 3, 1))
        assert float(features[name].std()) > 1e-4
    if getattr(direct, "pooler_output", None) is not None:
        torch.testing.assert_close(features["pooled"], direct.pooler_output.flatten(1))


@pytest.mark.parametrize("family", VISION)
def test_the_output_is_the_last_hidden_state(saved: Saved, photos: Path, family: str) -> None:
    model = load(saved, family)
    features = model.forward(inputs_of(model, photos)[:1], ["output"])
    assert features["output"].ndim == 4
    assert float(features["output"].std()) > 1e-4


def reference_processor(family: str, folder: Path):
    """The network's own processor, where it runs without torchvision."""
    import transformers

    kind = VISION[family][1].get("image_processor_type", "ViTImageProcessor")
    return getattr(transformers, f"{kind}Pil").from_pretrained(folder)


@pytest.mark.parametrize(
    "family", ["vit", "mae", "dinov2", "clip", "siglip", "sam", "resnet", "convnext"]
)
def test_preprocessing_is_that_of_the_own_processor(
    saved: Saved, photos: Path, family: str
) -> None:
    model = load(saved, family)
    processor = reference_processor(family, saved(family))
    for path in sorted(photos.iterdir()):
        image = Image.open(path).convert("RGB")
        expected = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
        np.testing.assert_allclose(model.prepare(image)[0], expected, atol=2e-6)


@pytest.mark.parametrize("family", ["dinov3", "sam2"])
def test_preprocessing_is_that_of_processors_that_need_torchvision(
    saved: Saved, photos: Path, family: str
) -> None:
    """Both scale to 0 .. 1, resize with antialiasing and normalise by ImageNet's moments.

    So do DINOv3ViTImageProcessor and Sam2ImageProcessor of transformers, the transform in
    DINOv3's readme (facebookresearch/dinov3), and SAM2Transforms (facebookresearch/sam2,
    sam2/utils/transforms.py). Resizing tensors with torchvision is this call of torch.
    """
    model = load(saved, family)
    mean, std = (torch.tensor(VISION[family][1][key]) for key in ("image_mean", "image_std"))
    assert mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert std.tolist() == pytest.approx([0.229, 0.224, 0.225])
    for path in sorted(photos.iterdir()):
        image = Image.open(path).convert("RGB")
        values = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
        found = model.prepare(image)[0]
        resized = torch.nn.functional.interpolate(
            values, found.shape[1:], mode="bilinear", align_corners=False, antialias=True
        )[0]
        in_pixels = torch.from_numpy(found) * std[:, None, None] + mean[:, None, None]
        # Pillow resizes bytes: it rounds once for each direction.
        torch.testing.assert_close(255 * in_pixels, 255 * resized, atol=1.01, rtol=0)
        assert float((255 * (in_pixels - resized)).abs().mean()) < 0.5


def ramp(height: int, width: int) -> Image.Image:
    """An image whose red grows down and whose green grows to the right, one step a pixel."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([y, x, 0 * x], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("size", [(200, 150), (97, 231), (64, 64)])
@pytest.mark.parametrize("family", VISION)
def test_positions_are_recovered_through_every_preprocessing(
    saved: Saved, family: str, size: tuple[int, int]
) -> None:
    model = load(saved, family)
    steps = model.preprocessing
    pixels, view = model.prepare(ramp(*size))
    colors = pixels.transpose(1, 2, 0) * np.array(steps.std) + np.array(steps.mean)
    # The input is a fine grid that shows where in the original each of its pixels lies; the value
    # of a pixel that covers i to i + 1 is i, and its middle lies at i + 0.5.
    shown = torch.from_numpy(colors[None, ..., :2] * 255 + 0.5)
    rows, columns = shown.shape[1:3]
    sizes = torch.tensor([size])

    def grid_of(n_rows: int, n_columns: int, box: tuple[float, ...]) -> TokenGrid:
        boxes = torch.from_numpy(view.to_original(np.array([box])))
        return TokenGrid(n_rows, n_columns, boxes, sizes)

    fine = grid_of(rows, columns, (0, 0, rows, columns))
    step = (fine.boxes[0, 2:] - fine.boxes[0, :2]) / torch.tensor([rows, columns])
    # At the ends of the image and of the input there is nothing to interpolate with.
    low = fine.boxes[0, :2].clamp(min=0) + 1.5 * step
    high = torch.minimum(fine.boxes[0, 2:], sizes[0]) - 1.5 * step
    description = model.describe([model.layers[0], model.layers[-1]])
    for layer in description.layers:
        if layer.region is None:
            continue
        places = token_positions(grid_of(*layer.shape[:2], description.regions[layer.region]))
        at = torch.stack([places.y, places.x], dim=1)
        inside = ((at > low) & (at < high)).all(dim=1)
        assert int(inside.sum()) >= 1
        error = read_positions(shown, fine, places.select(inside)) - at[inside]
        # Bytes are rounded, by half a step at most.
        assert float(error.abs().max()) < 0.6


@pytest.mark.parametrize("family", ["resnet", "convnext", "sam2", "vit"])
def test_tokens_lie_where_their_receptive_fields_are_centred(saved: Saved, family: str) -> None:
    model = load(saved, family)
    height, width = model.preprocessing.input_size
    name = "layer_0" if family in ("vit", "sam2") else model.layers[-1]
    # With positive weights everywhere the gradient of a token shows its field without cancelling.
    module = model.module
    # (ConvNeXt normalises over channels, which equal weights would leave nothing of.)
    with torch.no_grad():
        for one in module.modules():
            if isinstance(one, torch.nn.Conv2d) and family != "convnext":
                one.weight.fill_(1.0 / one.weight[0].numel())
    images = torch.rand(1, 3, height, width, requires_grad=True)
    kept = {}
    path, side = model.hook(name)

    def keep(_module, args, output=None):
        kept["tensor"] = args[0] if output is None else output

    target = module.get_submodule(path)
    if side == "input":
        handle = target.register_forward_pre_hook(keep)
    else:
        handle = target.register_forward_hook(keep)
    module(images)
    handle.remove()
    maps = model._maps(name, kept["tensor"], model.family.layout, (height, width))[name]
    row, column = maps.shape[1] // 2, maps.shape[2] // 2
    maps[0, row, column].sum().backward()
    weight = images.grad.abs().sum(dim=(0, 1))
    # What attention or a normalisation over the map spreads over everything is taken off.
    weight = (weight - weight.median()).clamp(min=0)
    y = float((weight.sum(dim=1) * (torch.arange(height) + 0.5)).sum() / weight.sum())
    box = model._region(maps.shape[1], maps.shape[2], height)
    center = box[0] + (row + 0.5) * (box[2] - box[0]) / maps.shape[1]
    stride = (box[2] - box[0]) / maps.shape[1]
    assert abs(y - center) < 0.15 * stride


@pytest.mark.parametrize("family", TRANSFORMERS)
@pytest.mark.parametrize("part", ["query", "key", "value", "attention", "mlp"])
def test_parts_of_a_block(saved: Saved, photos: Path, family: str, part: str) -> None:
    model = load(saved, family)
    inputs = inputs_of(model, photos)[:2]
    names = model.names_of([f"*.{part}"])
    assert names == tuple(f"layer_{i}.{part}" for i in (1, 2, 3))
    features = model.forward(inputs, names)
    assert features[names[0]].shape == (2, 4, 4, 32)
    assert not torch.equal(features[names[0]], features[names[1]])


def test_the_key_is_what_the_projection_gives(saved: Saved, photos: Path) -> None:
    model = load(saved, "dinov2")
    features = model.forward(inputs_of(model, photos)[:1], ["layer_1", "layer_2.key"])
    block = model.module.encoder.layer[1]
    tokens = features["layer_1"].flatten(1, 2)
    expected = block.attention.k_proj(block.norm1(tokens))
    torch.testing.assert_close(features["layer_2.key"].flatten(1, 2), expected.detach())


@pytest.mark.parametrize("layer", ["layer_1", "layer_3"], ids=["in windows", "over all"])
def test_windows_of_sam_are_put_back(saved: Saved, photos: Path, layer: str) -> None:
    model = load(saved, "sam")
    before = f"layer_{int(layer[-1]) - 1}"
    parts = [f"{layer}.{part}" for part in ("query", "key", "value")]
    features = model.forward(inputs_of(model, photos)[:2], [before, *parts])
    block = model.module.vision_encoder.layers[int(layer[-1]) - 1]
    with torch.no_grad():
        # The projection works token by token, whatever the window.
        expected = block.attn.qkv(block.layer_norm1(features[before])).chunk(3, dim=-1)
    for part, one in zip(parts, expected, strict=True):
        torch.testing.assert_close(features[part], one)


@pytest.mark.parametrize("size", [(128, 128), (96, 160)], ids=["own size", "another"])
def test_windows_of_sam_2_are_put_back_on_the_grid_that_goes_into_the_block(
    saved: Saved, photos: Path, size: tuple[int, int]
) -> None:
    model = load(saved, "sam2", image_size=size)
    layers = model.layers[1:]
    names = model.names_of(["*.query", "*.key", "*.value"])
    features = model.forward(inputs_of(model, photos)[:2], [*model.layers, *names])
    for number, layer in enumerate(layers):
        before = features[f"layer_{number}"]
        block = model.module.backbone.blocks[number]
        with torch.no_grad():
            expected = block.attn.qkv(block.layer_norm1(before)).chunk(3, dim=-1)
        for part, one in zip(("query", "key", "value"), expected, strict=True):
            torch.testing.assert_close(features[f"{layer}.{part}"], one)
    # The grid gets coarser inside of the blocks that open a stage, behind their projections.
    regions = model.regions(features, (3, *size))
    assert features["layer_2.key"].shape[1] == 2 * features["layer_2"].shape[1]
    assert regions["layer_2.key"] == regions["layer_1"]


def test_names_of_layers(saved: Saved) -> None:
    model = load(saved, "dinov2")
    assert model.names_of("all") == ("layer_0", "layer_1", "layer_2", "layer_3")
    assert model.names_of("last") == ("layer_3",)
    assert model.names_of([1, -1, "layer_2"]) == ("layer_1", "layer_2", "layer_3")
    with pytest.raises(UnknownNameError, match="has no layer 'layer_9'; it has 'layer_0'"):
        model.names_of(["layer_9"])
    with pytest.raises(UnknownNameError, match="has no layer 7; there are 4"):
        model.names_of([7])
    with pytest.raises(UnknownNameError, match="shows no 'keys' in layer_1"):
        model.names_of(["layer_1.keys"])
    with pytest.raises(UnknownNameError, match="shows no 'key' in layer_0"):
        model.names_of(["layer_0.key"])
    with pytest.raises(UnknownNameError, match="SAM 2 shows no 'attention'"):
        load(saved, "sam2").names_of(["*.attention"])
    with pytest.raises(InvalidInputError, match="layers is empty"):
        model.names_of([])


@pytest.mark.parametrize("family", ["vit", "mae", "clip", "siglip", "dinov2", "dinov3", "resnet"])
def test_another_input_size_gives_a_finer_grid_of_the_same_image(
    saved: Saved, photos: Path, family: str
) -> None:
    model = load(saved, family, image_size=64)
    features = model.forward(inputs_of(model, photos)[:1], ["layer_3"])
    assert features["layer_3"].shape[1:3] == ((4, 4) if family == "resnet" else (8, 8))
    description = model.describe(["layer_3"])
    assert description.layers[0].shape == tuple(features["layer_3"].shape[1:])


def test_sam_takes_its_own_size_only(saved: Saved) -> None:
    with pytest.raises(InvalidInputError, match="SAM takes images of 64 x 64"):
        load(saved, "sam", image_size=96)


def test_mixed_precision_stays_close(saved: Saved, photos: Path) -> None:
    exact, mixed = load(saved, "dinov2"), load(saved, "dinov2", dtype="bfloat16")
    inputs = inputs_of(exact, photos)
    before = exact.forward(inputs, ["layer_3"])["layer_3"]
    after = mixed.forward(inputs, ["layer_3"])["layer_3"].float()
    assert 0 < float((before - after).abs().max()) < 0.05 * float(before.abs().max())


def test_a_size_that_depends_on_the_image_is_refused_with_the_one_of_the_model(
    saved: Saved,
) -> None:
    without_crop = Preprocessing(fit="shortest", size=(40, 40))
    with pytest.raises(InvalidInputError, match=r"give image_size=32, the size"):
        load(saved, "dinov2", preprocessing=without_crop)
    # ResNet's configuration names no size.
    with pytest.raises(InvalidInputError, match=r"image_size=224, for example"):
        load(saved, "resnet", preprocessing=without_crop)
    model = load(saved, "dinov2", preprocessing=without_crop, image_size=32)
    assert model.blank().shape == (3, 32, 32)
