"""Image files as people have them: every format and depth, hidden copies, links, damage."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torch import nn

import relspace
from relspace.errors import InvalidInputError
from relspace.features import ModuleModel, UnreadableImageError, open_images
from relspace.features.extraction import SkippedImageWarning
from relspace.features.preprocessing import Preprocessing

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, size=(7, 9), dtype=np.uint8)
RGB = RNG.integers(0, 256, size=(7, 9, 3), dtype=np.uint8)


def png(
    values: np.ndarray, depth: int, kind: int, *, transparent: bytes = b"", extra: bytes = b""
) -> bytes:
    """Write a PNG of any depth: kinds 0 grey, 2 RGB, 4 grey and alpha, 6 RGBA."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    height, width = values.shape[:2]
    rows = []
    for row in values.reshape(height, -1):
        if depth == 16:
            rows.append(row.astype(">u2").tobytes())
        elif depth == 8:
            rows.append(row.astype(np.uint8).tobytes())
        else:
            bits = (row[:, None] >> np.arange(depth - 1, -1, -1)) & 1
            rows.append(np.packbits(bits.astype(np.uint8)).tobytes())
    parts = [
        b"\x89PNG\r\n\x1a\n",
        chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)),
    ]
    parts += [chunk(b"tRNS", transparent)] if transparent else []
    parts += [chunk(b"zTXt", b"a\0\0" + extra)] if extra else []
    parts += [chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))]
    return b"".join([*parts, chunk(b"IEND", b"")])


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def grey_as_rgb(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2).astype(np.uint8)


def with_white(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    return np.where(where[..., None], 255, values).astype(np.uint8)


def over_white(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    weight = alpha[..., None] / 255.0
    return np.round(values * weight + 255 * (1 - weight)).astype(np.uint8)


DEEP = RNG.integers(0, 65536, size=(7, 9))
DEEP[0, :2] = 0, 65535
ALPHA = RNG.integers(0, 256, size=(7, 9), dtype=np.uint8)
PALETTE = Image.fromarray(RGB).quantize(8, dither=Image.Dither.NONE)
INDICES = np.asarray(PALETTE)
COLORS = np.asarray(PALETTE.convert("RGB"))
SMOOTH = Image.fromarray(RGB).resize((90, 70), Image.Resampling.BICUBIC)


def frames() -> list[Image.Image]:
    return [Image.fromarray(RGB[::step]).resize((9, 7), 0) for step in (1, -1, 2)]


# Bytes of a file, what it shows, and by how much that may differ (lossy formats).
FILES: dict[str, tuple[Callable[[], bytes], np.ndarray, int]] = {
    "grey 1 bit": (lambda: png(GREY >> 7, 1, 0), grey_as_rgb((GREY >> 7) * 255), 0),
    "grey 2 bits": (lambda: png(GREY >> 6, 2, 0), grey_as_rgb((GREY >> 6) * 85), 0),
    "grey 4 bits": (lambda: png(GREY >> 4, 4, 0), grey_as_rgb((GREY >> 4) * 17), 0),
    "grey 8 bits": (lambda: png(GREY, 8, 0), grey_as_rgb(GREY), 0),
    "grey 16 bits": (lambda: png(DEEP, 16, 0), grey_as_rgb(np.round(DEEP / 257)), 0),
    **{
        f"grey {depth} bits, a transparent color": (
            lambda depth=depth: png(
                GREY >> (8 - depth), depth, 0, transparent=struct.pack(">H", 1)
            ),
            with_white(
                grey_as_rgb((GREY >> (8 - depth)) * (255 // (2**depth - 1))),
                (GREY >> (8 - depth)) == 1,
            ),
            0,
        )
        for depth in (1, 2, 4, 8)
    },
    "grey 16 bits, a transparent color": (
        lambda: png(DEEP, 16, 0, transparent=struct.pack(">H", int(DEEP[3, 4]))),
        with_white(grey_as_rgb(np.round(DEEP / 257)), DEEP[3, 4] == DEEP),
        0,
    ),
    "grey 16 bits, black is transparent": (
        lambda: png(DEEP, 16, 0, transparent=struct.pack(">H", 0)),
        with_white(grey_as_rgb(np.round(DEEP / 257)), DEEP == 0),
        0,
    ),
    "RGB 8 bits": (lambda: png(RGB, 8, 2), RGB, 0),
    "RGB 16 bits": (lambda: png(RGB.astype(int) * 257, 16, 2), RGB, 0),
    "RGB 8 bits, a transparent color": (
        lambda: png(RGB, 8, 2, transparent=struct.pack(">3H", *RGB[2, 2].tolist())),
        with_white(RGB, (RGB[2, 2] == RGB).all(axis=2)),
        0,
    ),
    "grey and alpha 8 bits": (
        lambda: png(np.stack([GREY, ALPHA], axis=2), 8, 4),
        over_white(grey_as_rgb(GREY), ALPHA),
        1,
    ),
    "grey and alpha 16 bits": (
        lambda: png(np.stack([GREY, ALPHA], axis=2).astype(int) * 257, 16, 4),
        over_white(grey_as_rgb(GREY), ALPHA),
        1,
    ),
    "RGBA 16 bits": (
        lambda: png(np.dstack([RGB, ALPHA]).astype(int) * 257, 16, 6),
        over_white(RGB, ALPHA),
        1,
    ),
    "palette": (lambda: saved(PALETTE, "PNG"), COLORS, 0),
    "palette, a transparent index": (
        lambda: saved(PALETTE, "PNG", transparency=3),
        with_white(COLORS, INDICES == 3),
        0,
    ),
    "palette, transparent by degrees": (
        lambda: saved(PALETTE, "PNG", transparency=bytes(range(0, 240, 30))),
        over_white(COLORS, INDICES * 30),
        1,
    ),
    "GIF": (lambda: saved(PALETTE, "GIF"), COLORS, 0),
    "GIF, transparent": (
        lambda: saved(PALETTE, "GIF", transparency=2),
        with_white(COLORS, INDICES == 2),
        0,
    ),
    "GIF, animated": (
        lambda: saved(PALETTE, "GIF", save_all=True, append_images=frames()),
        COLORS,
        0,
    ),
    "WebP, animated": (
        lambda: saved(frames()[0], "WEBP", save_all=True, append_images=frames(), lossless=True),
        RGB,
        0,
    ),
    "WebP, alpha": (
        lambda: saved(Image.fromarray(np.dstack([RGB, ALPHA])), "WEBP", lossless=True, exact=True),
        over_white(RGB, ALPHA),
        1,
    ),
    "TIFF, pages": (
        lambda: saved(frames()[0], "TIFF", save_all=True, append_images=frames()),
        RGB,
        0,
    ),
    "TIFF, 1 bit": (
        lambda: saved(Image.fromarray(GREY > 127), "TIFF"),
        grey_as_rgb(np.where(GREY > 127, 255, 0)),
        0,
    ),
    "TIFF, 16 bits": (
        lambda: saved(Image.fromarray(DEEP.astype(np.uint16)), "TIFF"),
        grey_as_rgb(np.round(DEEP / 257)),
        0,
    ),
    "TIFF, CMYK": (
        lambda: saved(Image.fromarray(RGB).convert("CMYK"), "TIFF"),
        RGB,
        2,
    ),
    "TIFF, YCbCr": (lambda: saved(Image.fromarray(RGB).convert("YCbCr"), "TIFF"), RGB, 3),
    "BMP": (lambda: saved(Image.fromarray(RGB), "BMP"), RGB, 0),
    "PPM": (lambda: saved(Image.fromarray(RGB), "PPM"), RGB, 0),
    "JPEG": (lambda: saved(SMOOTH, "JPEG", quality=100, subsampling=0), np.asarray(SMOOTH), 6),
    "JPEG, grey": (
        lambda: saved(SMOOTH.convert("L"), "JPEG", quality=100),
        grey_as_rgb(np.asarray(SMOOTH.convert("L"))),
        6,
    ),
    "JPEG, CMYK": (
        lambda: saved(SMOOTH.convert("CMYK"), "JPEG", quality=100, subsampling=0),
        np.asarray(SMOOTH),
        8,
    ),
    "a suffix that lies": (lambda: saved(Image.fromarray(RGB), "BMP"), RGB, 0),
}


@pytest.mark.parametrize("name", list(FILES))
def test_files_of_every_kind_show_what_they_show(name: str, tmp_path: Path) -> None:
    content, expected, atol = FILES[name]
    path = tmp_path / "image.png"
    path.write_bytes(content())
    found = np.asarray(open_images(path).load(0))
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= atol


@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_images_of_16_bits_are_turned_too(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = []
    for values, name in ((DEEP.astype(np.uint16), "deep.png"), (np.round(DEEP / 257), "flat.png")):
        kept = values if name == "deep.png" else values.astype(np.uint8)
        Image.fromarray(kept).save(tmp_path / name, exif=exif)
        shown.append(np.asarray(open_images(tmp_path / name).load(0)))
    np.testing.assert_array_equal(*shown)
    assert (shown[0].shape[:2] == DEEP.shape) == (orientation == 3)


def exif_with(entries: list[tuple[int, int, int, bytes]]) -> bytes:
    """Write EXIF with entries of (tag, type, count, value of 4 bytes or data behind)."""
    offset = 8 + 2 + 12 * len(entries) + 4
    table, data = b"", b""
    for tag, kind, count, value in entries:
        held = value if len(value) <= 4 else struct.pack("<I", offset + len(data))
        data += value if len(value) > 4 else b""
        table += struct.pack("<HHI", tag, kind, count) + held.ljust(4, b"\0")
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + table + b"\0" * 4 + data


ORIENTATION = (0x0112, 3, 1, struct.pack("<HH", 6, 0))


@pytest.mark.parametrize(
    "entry",
    [
        (0x010E, 5, 1, struct.pack("<II", 1, 2)),  # ImageDescription as a rational
        (0x0100, 9, 1, struct.pack("<i", -5)),  # a width below zero
        (0x0132, 1, 3, b"abc"),
        (0x013B, 12, 1, struct.pack("<d", 1.5)),
        (0x8769, 4, 1, struct.pack("<I", 10**9)),  # another directory that is nowhere
    ],
)
def test_what_else_is_wrong_with_exif_does_not_matter(
    entry: tuple[int, int, int, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "photo.jpg"
    entries = sorted([ORIENTATION, entry])
    path.write_bytes(saved(SMOOTH, "JPEG", quality=100, exif=exif_with(entries)))
    turned = np.rot90(np.asarray(SMOOTH), -1).astype(int)
    found = np.asarray(open_images(path).load(0)).astype(int)
    assert np.abs(found - turned).mean() < 3


def bomb() -> bytes:
    return png(np.zeros((1, 1), np.uint8), 8, 0).replace(
        struct.pack(">II", 1, 1), struct.pack(">II", 40000, 40000), 1
    )


def checked(content: bytes) -> bytes:
    """Make the checksum of a PNG's header right again."""
    header = content[12:29]
    return content[:29] + struct.pack(">I", zlib.crc32(header)) + content[33:]


DAMAGED: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"no image at all",
    "cut JPEG": lambda: saved(SMOOTH, "JPEG")[:400],
    "cut PNG": lambda: saved(SMOOTH, "PNG")[:400],
    "cut TIFF": lambda: saved(SMOOTH, "TIFF")[:400],
    "cut GIF": lambda: saved(SMOOTH, "GIF")[:-2000],
    "cut WebP": lambda: saved(SMOOTH, "WEBP")[:100],
    "a bomb of pixels": lambda: checked(bomb()),
    "a bomb of text": lambda: png(GREY, 8, 0, extra=zlib.compress(b"a" * 200_000_000, 1)),
    "no pixels": lambda: checked(
        png(GREY, 8, 0).replace(struct.pack(">II", 9, 7), struct.pack(">II", 0, 7), 1)
    ),
    "RGB 16 bits, a transparent color": lambda: png(
        RGB.astype(int) * 257, 16, 2, transparent=struct.pack(">3H", 500, 500, 500)
    ),
    "RGB 16 bits, a dark transparent color": lambda: png(
        RGB.astype(int) * 257, 16, 2, transparent=struct.pack(">3H", 1, 1, 1)
    ),
    "floats": lambda: saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"),
    "more than 16 bits": lambda: saved(Image.fromarray(GREY.astype(np.int32) * 70_000), "TIFF"),
}


def damaged_folder(folder: Path) -> Path:
    folder.mkdir()
    for name, content in DAMAGED.items():
        (folder / f"{name}.png").write_bytes(content())
    (folder / "whole.png").write_bytes(png(RGB, 8, 2))
    return folder


def test_whatever_is_wrong_in_one_image_is_that_images_error(tmp_path: Path) -> None:
    collection = open_images(damaged_folder(tmp_path / "photos"))
    for i, name in enumerate(collection.ids):
        if name == "whole.png":
            np.testing.assert_array_equal(collection.load(i), RGB)
            continue
        with pytest.raises(UnreadableImageError) as caught:
            collection.load(i)
        assert name in str(caught.value)


def test_every_damaged_image_is_skipped(tmp_path: Path) -> None:
    folder = damaged_folder(tmp_path / "photos")
    model = ModuleModel(
        nn.Sequential(nn.Conv2d(3, 2, 4, stride=4)),
        "0",
        layout="bchw",
        preprocessing=Preprocessing(size=(8, 8)),
        device="cpu",
    )
    with pytest.warns(SkippedImageWarning, match=f"{len(DAMAGED)} of {len(DAMAGED) + 1} images"):
        found = relspace.extract(model, folder, tmp_path / "a.zarr", on_error="skip")
    assert found.ids == ("whole.png",)
    assert torch.isfinite(found.tokens()).all()


@pytest.mark.parametrize("error", [RecursionError, AttributeError, struct.error, AssertionError])
def test_errors_of_the_decoder_are_the_images(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(png(RGB, 8, 2))

    def fail(*_: object) -> None:
        raise error("deep")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(UnreadableImageError, match=r"a\.png can't be read .*: deep"):
        open_images(tmp_path).load(0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_is_no_fault_of_an_image_passes(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(png(RGB, 8, 2))

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(error):
        open_images(tmp_path).load(0)


FUZZED = {
    "a.jpg": lambda: saved(SMOOTH, "JPEG", exif=exif_with([ORIENTATION])),
    "a.png": lambda: png(DEEP, 16, 0, transparent=struct.pack(">H", 5)),
    "a.gif": lambda: saved(PALETTE, "GIF", transparency=2),
    "a.tif": lambda: saved(Image.fromarray(RGB), "TIFF", compression="tiff_lzw"),
    "a.webp": lambda: saved(Image.fromarray(RGB), "WEBP"),
    "a.bmp": lambda: saved(PALETTE, "BMP"),
    "a.ppm": lambda: saved(Image.fromarray(RGB), "PPM"),
}


@pytest.mark.parametrize("name", list(FUZZED))
def test_mutated_files_give_a_picture_or_their_own_error(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(sum(map(ord, name)))
    whole = np.frombuffer(FUZZED[name](), dtype=np.uint8)
    path, refused = tmp_path / name, []
    # Most of a header is at the beginning.
    for i in range(60):
        content = whole.copy()
        reach = len(content) if i % 2 else min(64, len(content))
        places = rng.integers(0, reach, size=rng.integers(1, 6))
        content[places] = rng.integers(0, 256, size=len(places))
        cut = rng.integers(1, len(content)) if i % 5 == 0 else len(content)
        path.write_bytes(content[:cut].tobytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                image = open_images(path).load(0)
            except UnreadableImageError as error:
                refused.append(str(error))
                continue
        assert image.mode == "RGB"
        assert np.asarray(image).size > 0
    assert all(name in message for message in refused)
    assert refused


def touch(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(np.full((2, 2), value, np.uint8), 8, 0))


HIDDEN = (
    ".ipynb_checkpoints/a-checkpoint.png",
    "cats/.ipynb_checkpoints/a.png",
    "@eaDir/a.png",
    "cats/@eaDir/a.png/SYNOPHOTO_THUMB_M.png",
    "__MACOSX/._a.png",
    "__MACOSX/cats/a.png",
    ".git/a.png",
    "cats/._a.png",
    "$RECYCLE.BIN/a.png",
)


def test_what_is_hidden_is_left_out_of_folders_and_patterns(tmp_path: Path) -> None:
    shown = ("a.png", "cats/a.PNG", "cats/b.jpeg", "dogs/a.png")
    for name in (*HIDDEN, *shown):
        touch(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    assert open_images(tmp_path).ids == shown
    pattern = open_images(str(tmp_path / "**" / "*.[pPj]*"))
    assert [Path(one).relative_to(tmp_path).as_posix() for one in pattern.ids] == list(shown)
    meant = open_images(str(tmp_path / "cats" / "@eaDir" / "*" / "*.png"))
    assert meant.ids == ("SYNOPHOTO_THUMB_M.png",)
    checkpoints = open_images(str(tmp_path / ".ipynb_checkpoints" / "*.png"))
    assert checkpoints.ids == ("a-checkpoint.png",)
    assert open_images(tmp_path / ".git").ids == ("a.png",)
    touch(tmp_path / "empty" / ".hidden" / "a.png")
    with pytest.raises(InvalidInputError, match=r"hold no images .* hidden ones left out"):
        open_images(tmp_path / "empty")


def test_links_are_followed_once(tmp_path: Path) -> None:
    for name in ("data/cats/a.png", "data/dogs/b.png", "elsewhere/birds/c.png"):
        touch(tmp_path / name)
    data = tmp_path / "data"
    (data / "cats" / "loop").symlink_to(data)
    (data / "more").symlink_to(tmp_path / "elsewhere")
    (data / "a_dogs").symlink_to(data / "dogs")
    (data / "dead.png").symlink_to("nowhere")
    (data / "link.png").symlink_to(data / "cats" / "a.png")
    expected = ("cats/a.png", "dogs/b.png", "link.png", "more/birds/c.png")
    assert open_images(data).ids == expected
    pattern = open_images(str(data / "**" / "*.png"))
    assert len(pattern) == len(expected)
    (tmp_path / "alias").symlink_to(data)
    assert open_images(tmp_path / "alias").ids == expected


def test_a_home_that_is_not_there_is_no_folder() -> None:
    with pytest.raises(FileNotFoundError, match="no folder or file ~nobody-of-this-name/photos"):
        open_images("~nobody-of-this-name/photos")


def test_names_that_are_no_utf_8_need_ids(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    try:
        touch(tmp_path / name)
    except OSError:
        pytest.skip("this file system has no such names")
    touch(tmp_path / "na\u00efve \u2028.png")
    with pytest.raises(InvalidInputError, match=r"1 of the images have names .*udce9.*give ids"):
        open_images(tmp_path)
    assert len(open_images(tmp_path, ids=["a", "b"])) == 2


@pytest.mark.parametrize("suffix", [".JFIF", ".heic", ".avif", ".pbm"])
def test_images_that_can_not_be_read_are_not_left_out(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"photo{suffix}").write_bytes(b"....ftypheic")
    with pytest.raises(UnreadableImageError, match="photo"):
        open_images(tmp_path).load(0)
