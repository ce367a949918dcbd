"""Images of every kind and from every place become upright RGB, and bad ones are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError
from relspace.features import UnreadableImageError, open_images

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 255, size=(6, 8, 3), dtype=np.uint8)


def loaded(images, i: int = 0, **options) -> np.ndarray:
    return np.asarray(open_images(images, **options).load(i))


def write(path: Path, image: Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def test_folders_are_searched_and_files_have_ids_of_their_own(tmp_path: Path) -> None:
    for name in ("b/one.png", "a/one.png", "two.PNG", ".hidden.png"):
        write(tmp_path / name, Image.fromarray(RGB))
    (tmp_path / "notes.txt").write_text("no image")
    collection = open_images(tmp_path)
    assert collection.ids == ("a/one.png", "b/one.png", "two.PNG")
    np.testing.assert_array_equal(collection.load(2), RGB)
    assert "3 images" in repr(collection)
    assert open_images(str(tmp_path / "*" / "*.png")).ids == (
        (tmp_path / "a/one.png").as_posix(),
        (tmp_path / "b/one.png").as_posix(),
    )
    assert open_images(str(tmp_path / "**" / "*.PNG")).ids == ("two.PNG",)
    assert open_images([tmp_path / "two.PNG", str(tmp_path / "a/one.png")]).ids == (
        "two.PNG",
        "one.png",
    )
    assert open_images(tmp_path / "two.PNG").ids == ("two.PNG",)
    assert open_images(np.array([str(tmp_path / "two.PNG")])).ids == ("two.PNG",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write(tmp_path / "turned.png", Image.fromarray(RGB), exif=exif)
    turned = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, -1),
        7: np.rot90(RGB, 2).transpose(1, 0, 2),
        8: np.rot90(RGB, 1),
    }[orientation]
    np.testing.assert_array_equal(loaded(path), turned)


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    alpha = np.zeros((6, 8, 1), dtype=np.uint8)
    alpha[:3] = 255
    image = Image.fromarray(np.concatenate([RGB, alpha], axis=2))
    result = loaded(write(tmp_path / "rgba.png", image))
    np.testing.assert_array_equal(result[:3], RGB[:3])
    assert (result[3:] == 255).all()


def test_grey_palettes_and_16_bits(tmp_path: Path) -> None:
    grey = RGB[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(
        loaded(write(tmp_path / "g.png", Image.fromarray(grey))), expected
    )
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    for name in ("deep.png", "deep.tif"):
        np.testing.assert_array_equal(loaded(write(tmp_path / name, deep)), expected)
    flat = Image.fromarray(np.where(RGB > 127, 255, 0).astype(np.uint8))
    palette = flat.quantize(8, dither=Image.Dither.NONE)
    path = write(tmp_path / "p.png", palette)
    np.testing.assert_array_equal(loaded(path), np.asarray(palette.convert("RGB")))
    path = write(tmp_path / "t.gif", palette, transparency=int(np.asarray(palette)[0, 0]))
    assert (loaded(path)[0, 0] == 255).all()
    bits = Image.fromarray(grey > 127)
    np.testing.assert_array_equal(
        loaded(write(tmp_path / "1.png", bits))[..., 0], np.where(grey > 127, 255, 0)
    )
    assert (
        loaded(write(tmp_path / "c.jpg", Image.fromarray(RGB).convert("CMYK"))).shape == RGB.shape
    )


def test_arrays_of_every_kind() -> None:
    batch = np.stack([RGB, RGB[::-1]])
    for given in (
        batch,
        torch.from_numpy(batch),
        batch / 255.0,
        batch.astype(np.uint16) * 257,
        batch.transpose(0, 3, 1, 2),
        torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255,
        [RGB, RGB[::-1]],
        [Image.fromarray(RGB), Image.fromarray(RGB[::-1])],
        [torch.from_numpy(RGB), torch.from_numpy(RGB[::-1].copy())],
    ):
        collection = open_images(given)
        assert collection.ids == ("0", "1")
        np.testing.assert_array_equal(collection.load(1), RGB[::-1])
    np.testing.assert_array_equal(loaded([RGB[..., 0]])[..., 2], RGB[..., 0])
    np.testing.assert_array_equal(loaded(Image.fromarray(RGB)), RGB)


def test_ids_are_checked() -> None:
    assert open_images([RGB, RGB], ids=["a", "b"]).ids == ("a", "b")
    with pytest.raises(ItemMismatchError, match="2 items and 1 id"):
        open_images([RGB, RGB], ids=["a"])
    with pytest.raises(ItemMismatchError, match="more than once"):
        open_images([RGB, RGB], ids=["a", "a"])


def test_ambiguous_and_wrong_input_is_refused(tmp_path: Path) -> None:
    thin = np.zeros((2, 3, 5, 3), dtype=np.uint8)
    with pytest.raises(InvalidInputError, match="give layout="):
        open_images(thin)
    assert open_images(thin, layout="bhwc").load(0).size == (5, 3)
    assert open_images(thin, layout="bchw").load(0).size == (3, 5)
    with pytest.raises(InvalidInputError, match="not to be found"):
        open_images(np.zeros((2, 5, 5, 5), dtype=np.uint8))
    with pytest.raises(InvalidInputError, match="four axes"):
        open_images(RGB)
    with pytest.raises(InvalidInputError, match=r"floats must lie in 0 \.\. 1"):
        loaded([RGB.astype(float)])
    with pytest.raises(InvalidTypeError, match="values of type int64"):
        loaded([RGB.astype(np.int64)])
    with pytest.raises(InvalidTypeError, match="of type int"):
        open_images(7)
    with pytest.raises(InvalidTypeError, match="mixes paths"):
        open_images([RGB, "a.png"])
    with pytest.raises(InvalidInputError, match="there are no images"):
        open_images([])
    with pytest.raises(InvalidInputError, match="hold no images"):
        open_images(tmp_path)
    with pytest.raises(InvalidInputError, match="no file matches"):
        open_images(str(tmp_path / "*.png"))
    with pytest.raises(FileNotFoundError, match="no folder or file"):
        open_images(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match=r"1 of the images don't exist: .*missing\.png"):
        open_images([tmp_path / "missing.png"])


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "cut.jpg", Image.fromarray(np.tile(RGB, (20, 20, 1))))
    path.write_bytes(path.read_bytes()[:300])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image at all")
    write(tmp_path / "float.tif", Image.fromarray(RGB[..., 0].astype(np.float32)))
    collection = open_images(tmp_path)
    for i, name in enumerate(collection.ids):
        with pytest.raises(UnreadableImageError, match=name.replace(".", r"\.")):
            collection.load(i)


def test_texts_given_for_images_are_called_so(tmp_path: Path) -> None:
    path = tmp_path / "sentences.txt"
    for text in ("a red house\n" * 200, "für die Katz: " + "ü" * 2000):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InvalidInputError, match=r"sentences\.txt is a file of text"):
            open_images(path)
    with pytest.raises(FileNotFoundError, match=r"2 of the images .* They look like texts"):
        open_images(["a red house", "the bird sings"])
    with pytest.raises(FileNotFoundError, match=r"'missing\.png'\.$"):
        open_images(["missing.png"])
    # Without a suffix, and no text.
    assert len(open_images(write(tmp_path / "photo", Image.fromarray(RGB), format="PNG"))) == 1


def test_a_list_names_what_is_no_image() -> None:
    with pytest.raises(InvalidTypeError, match="image 1 is of type NoneType"):
        open_images([RGB, None])
    masked = np.ma.masked_equal(RGB, RGB[0, 0, 0])
    for given in ([masked], masked[None]):
        with pytest.raises(InvalidInputError, match="masked array with masked values"):
            open_images(given)
    np.testing.assert_array_equal(loaded([np.ma.asarray(RGB)]), RGB)


def test_arrays_of_every_float_and_byte_order() -> None:
    for given in (
        RGB.astype(">u2") * np.array(257, dtype=">u2"),
        (RGB / 255.0).astype(">f8"),
        torch.from_numpy(RGB / np.float32(255)).requires_grad_(),
        torch.from_numpy(RGB.astype(np.uint16) * 257),
    ):
        np.testing.assert_array_equal(loaded([given]), RGB)
    steps = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(
        loaded([(steps / 255.0).astype(np.float16)])[..., 0], np.round(steps)
    )
    half = torch.full((1, 2, 2, 3), 0.5, dtype=torch.bfloat16)
    assert (loaded(half) == 128).all()


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (np.zeros((0, 4, 3), np.uint8), r"image 1 has shape \(0, 4, 3\): it is empty"),
        (np.zeros((4, 4, 2), np.uint8), r"image 1 has shape \(4, 4, 2\)"),
        (np.full((4, 4, 3), np.nan), "image 1 holds floats from nan"),
        (Image.new("RGB", (0, 3)), "image 1 has 0 x 3 pixels"),
        (Image.new("F", (2, 3)), "image 1 holds floats"),
    ],
)
def test_what_is_wrong_in_one_of_a_list_is_that_images_error(item: object, message: str) -> None:
    collection = open_images([RGB, item])
    np.testing.assert_array_equal(collection.load(0), RGB)
    with pytest.raises(UnreadableImageError, match=message):
        collection.load(1)


def test_datasets_on_disk(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    images = [Image.fromarray(RGB), Image.fromarray(RGB[::-1])]
    dataset = datasets.Dataset.from_dict(
        {"image": images, "label": [0, 1]},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}),
    )
    dataset.save_to_disk(str(tmp_path / "plain"))
    collection = open_images(tmp_path / "plain")
    assert collection.ids == ("0", "1")
    np.testing.assert_array_equal(collection.load(1), RGB[::-1])
    named = dataset.add_column("id", ["x", "y"])
    assert open_images(named).ids == ("x", "y")
    broken = datasets.Dataset.from_dict(
        {"image": [images[0], None, {"bytes": b"no image", "path": None}]},
        features=datasets.Features({"image": datasets.Image()}),
    )
    for i in (1, 2):
        with pytest.raises(UnreadableImageError, match=f"image {i} can't be read"):
            open_images(broken).load(i)
    datasets.DatasetDict(train=dataset).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(InvalidInputError, match=r"several splits, 'train'"):
        open_images(tmp_path / "splits")
    assert len(open_images(tmp_path / "splits" / "train")) == 2
    with pytest.raises(InvalidInputError, match="0 columns of images"):
        open_images(dataset.select_columns(["label"]))
