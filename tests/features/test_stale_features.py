"""Features that are stored are those of the items that were asked for, or there is an error."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from click.testing import CliRunner
from PIL import Image

import relspace
from relspace.cli import commands
from relspace.errors import FileFormatError, InvalidInputError, ItemMismatchError
from relspace.features import (
    BlankLinesWarning,
    ImageCollection,
    ItemContentWarning,
    OtherExtractionError,
    open_features,
    open_images,
)
from relspace.features.items import identify_items, open_items

Saved = Callable[[str], Path]
N = 130
TEXTS = ["a red house", "the bird sings", "a river falls", "the tree stands", "a blue bird runs"]


def pixels(seed: int, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, size=(n, 16, 16, 3), dtype=np.uint8)


def model() -> relspace.ModuleModel:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, 8), torch.nn.Tanh())
    preprocessing = relspace.Preprocessing(size=(16, 16))
    return relspace.ModuleModel(network, ["1"], layout="bchw", preprocessing=preprocessing)


def save(folder: Path, images: np.ndarray) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i:03d}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path, compress_level=0)
    return paths


def extract(items: object, out: Path, **given: Any) -> Any:
    return relspace.extract(model(), items, out, **given)


def features(items: object, tmp_path: Path) -> torch.Tensor:
    return extract(items, tmp_path / "fresh.zarr", overwrite=True)["1"].tokens()


def as_list(images: np.ndarray, folder: Path) -> object:
    return list(images)


def as_array(images: np.ndarray, folder: Path) -> object:
    return images


def as_tensor(images: np.ndarray, folder: Path) -> object:
    return torch.from_numpy(images)


def as_pil(images: np.ndarray, folder: Path) -> object:
    return [Image.fromarray(image) for image in images]


def as_folder(images: np.ndarray, folder: Path) -> object:
    save(folder, images)
    return folder


def as_glob(images: np.ndarray, folder: Path) -> object:
    save(folder, images)
    return f"{folder}/*.png"


def as_paths(images: np.ndarray, folder: Path) -> object:
    return save(folder, images)


WAYS = [as_list, as_array, as_tensor, as_pil, as_folder, as_glob, as_paths]


@pytest.mark.parametrize("way", WAYS)
def test_other_images_of_the_same_number_are_never_taken_for_the_first(
    way: Callable[[np.ndarray, Path], object], tmp_path: Path
) -> None:
    out, folder = tmp_path / "a.zarr", tmp_path / "photos"
    first = pixels(0)
    before = extract(way(first, folder), out)["1"].tokens()
    # One pixel of one image, of which earlier digests saw none (every 64th part of an array).
    other = first.copy()
    other[5, 3, 3, 0] ^= 1
    with pytest.raises(OtherExtractionError, match=r"other items: 1 of 130 have other content \("):
        extract(way(other, folder), out)
    with pytest.raises(OtherExtractionError, match="130 of 130 have other content"):
        extract(way(pixels(1), folder), out)
    # Of an array of so many images the digest of every second one was taken before.
    turned = way(first[::-1].copy(), folder)
    with pytest.raises(OtherExtractionError, match="the same in another order"):
        extract(turned, out)
    assert torch.equal(open_features(out)["1"].tokens(), before)
    again = extract(turned, out, overwrite=True)["1"].tokens()
    assert torch.equal(again, features(turned, tmp_path))
    assert not torch.equal(again, before)


@pytest.mark.parametrize("way", WAYS)
def test_the_same_images_are_read_from_the_store(
    way: Callable[[np.ndarray, Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, folder = tmp_path / "a.zarr", tmp_path / "photos"
    images = way(pixels(0, 4), folder)
    before = extract(images, out)["1"].tokens()
    for path in folder.glob("*"):
        os.utime(path, (1, 1))
    monkeypatch.setattr(relspace.ModuleModel, "forward", None)
    assert torch.equal(extract(way(pixels(0, 4), folder), out)["1"].tokens(), before)


def test_images_that_came_or_went_are_named(tmp_path: Path) -> None:
    out, folder = tmp_path / "a.zarr", tmp_path / "photos"
    paths = save(folder, pixels(0, 4))
    extract(folder, out)
    paths[1].rename(folder / "new.png")
    with pytest.raises(OtherExtractionError, match=r"1 gone \('001\.png'\), 1 new \('new\.png'\)"):
        extract(folder, out)
    (folder / "new.png").unlink()
    with pytest.raises(OtherExtractionError, match=r"1 gone \('001\.png'\): name another"):
        extract(folder, out)
    extract(pixels(0, 4), tmp_path / "b.zarr")
    with pytest.raises(OtherExtractionError, match="4 then, 3 now"):
        extract(pixels(0, 3), tmp_path / "b.zarr")
    with pytest.raises(OtherExtractionError, match="they have ids now, and had none"):
        extract(pixels(0, 4), tmp_path / "b.zarr", ids=list("abcd"))


def test_images_that_can_not_be_identified_are_resumed_only_when_told(tmp_path: Path) -> None:
    images = [Image.fromarray(one) for one in pixels(0, 3)]
    own = ImageCollection(("a", "b", "c"), images.__getitem__)
    out = tmp_path / "a.zarr"
    before = extract(own, out)
    assert before.contents is None
    with pytest.raises(OtherExtractionError, match=r"can't be identified .* resume='trust'"):
        extract(own, out)
    with pytest.raises(InvalidInputError, match="one of identified, trust"):
        extract(own, out, resume="yes")
    assert torch.equal(extract(own, out, resume="trust")["1"].tokens(), before["1"].tokens())
    with pytest.raises(OtherExtractionError, match="1 gone"):
        extract(ImageCollection(("a", "b"), images.__getitem__), out, resume="trust")
    with pytest.raises(OtherExtractionError, match="different are batch_size"):
        extract(own, out, resume="trust", batch_size=2)


def test_what_is_known_to_be_other_is_refused_whatever_is_vouched_for(tmp_path: Path) -> None:
    extract(pixels(0, 3), tmp_path / "a.zarr")
    with pytest.raises(OtherExtractionError, match="3 of 3 have other content"):
        extract(pixels(1, 3), tmp_path / "a.zarr", resume="trust")


def test_a_file_that_is_changed_between_identifying_and_loading_is_an_error(tmp_path: Path) -> None:
    paths = save(tmp_path / "photos", pixels(0, 3))
    items = identify_items(open_items("image", paths, None)).items
    os.utime(paths[1], (1, 1))
    assert items.load(1).size == (16, 16)
    save(tmp_path / "photos", pixels(1, 3))
    with pytest.raises(InvalidInputError, match=r"001\.png was changed while features were extr"):
        items.load(1)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.putpalette([3, 2, 1] * 256),
        lambda image: image.info.update(transparency=3),
        lambda image: image.getexif().update({0x0112: 6}),
    ],
)
def test_how_an_image_is_to_be_seen_counts(change: Callable[[Any], None]) -> None:
    image = Image.fromarray(pixels(0, 1)[0]).convert("P")
    other = image.copy()
    change(other)
    one, two = (open_images([i]).identify(0) for i in (image, other))  # type: ignore[misc]
    assert one.is_known
    assert not one.same_as(two)


def test_datasets_are_known_by_their_images(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")

    def dataset(images: np.ndarray) -> Any:
        pictures = [Image.fromarray(image) for image in images]
        kinds = datasets.Features({"image": datasets.Image()})
        return datasets.Dataset.from_dict({"image": pictures}, features=kinds)

    out = tmp_path / "a.zarr"
    assert extract(dataset(pixels(0, 3)), out).ids is None
    extract(dataset(pixels(0, 3)), out)
    with pytest.raises(OtherExtractionError, match="3 of 3 have other content"):
        extract(dataset(pixels(1, 3)), out)
    turned = dataset(pixels(0, 3)).with_transform(lambda rows: rows)
    with pytest.raises(OtherExtractionError, match="can't be identified"):
        extract(turned, out)


def text(saved: Saved, items: object, out: Path, **given: Any) -> Any:
    return relspace.extract(saved("bert"), items, out, device="cpu", layers="last", **given)


def test_lines_that_were_exchanged_are_other_texts(saved: Saved, tmp_path: Path) -> None:
    path, out = tmp_path / "texts.txt", tmp_path / "a.zarr"
    path.write_text("\n".join(TEXTS))
    first = text(saved, path, out)
    path.write_text("\n".join([TEXTS[1], TEXTS[0], *TEXTS[2:]]))
    with pytest.raises(OtherExtractionError, match=r"the same in another order.* line 1"):
        text(saved, path, out)
    path.write_text("\n".join([*TEXTS[:3], "a small tree", TEXTS[4]]))
    with pytest.raises(OtherExtractionError, match=r"1 of 5 have other content \('line 4'\)"):
        text(saved, path, out)
    # The same texts in a list, or with other ends of lines, are the same.
    path.write_bytes("\r\n".join(TEXTS).encode())
    assert text(saved, path, tmp_path / "b.zarr").contents == first.contents
    assert text(saved, TEXTS, tmp_path / "c.zarr").contents == first.contents


def test_texts_that_were_only_counted_have_no_ids(saved: Saved, tmp_path: Path) -> None:
    shuffled = TEXTS[2:] + TEXTS[:2]
    a = text(saved, TEXTS, tmp_path / "a.zarr")
    b = text(saved, shuffled, tmp_path / "b.zarr")
    other = text(saved, [one + " over" for one in TEXTS], tmp_path / "c.zarr")
    assert a.ids is None
    assert extract(pixels(0, 3), tmp_path / "d.zarr").ids is None
    for call in (
        lambda x, y: relspace.compare(x["layer_3"], y["layer_3"], measure="cka"),
        lambda x, y: relspace.compare_layers(x, y, n_permutations=0),
        lambda x, y: relspace.compare_models({"x": x, "y": y}, n_permutations=0),
        lambda x, y: relspace.align({"x": x, "y": y}),
    ):
        with pytest.raises(ItemMismatchError, match="same items in different orders"):
            call(a, b)
        with pytest.raises(ItemMismatchError, match=r"row 0 .* different items; 5 of 5 rows"):
            call(a, other)
        call(a, a)
    # Ids are what rows are matched by where they are given.
    named = [f"sentence {i}" for i in range(5)]
    a = text(saved, TEXTS, tmp_path / "e.zarr", ids=named)
    b = text(saved, shuffled, tmp_path / "f.zarr", ids=named[2:] + named[:2])
    found = relspace.compare(a["layer_3"], b["layer_3"], measure="cka")
    assert found.matched_by == "ids"
    assert found.value == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("command", ["align", "compare", "layers"])
def test_the_commands_refuse_other_texts_too(
    command: str, saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text(saved, TEXTS, tmp_path / "a.zarr")
    text(saved, TEXTS[::-1], tmp_path / "b.zarr")
    given = [command, "a.zarr", "b.zarr"]
    given += ["-o", "space.safetensors"] if command == "align" else ["--permutations", "0"]
    done = CliRunner().invoke(commands, given)
    assert done.exit_code == 2
    assert "hold the same items in different orders" in done.stderr
    assert "--by-position" in done.stderr
    assert "ids=" not in done.stderr
    told = CliRunner().invoke(commands, [*given, "--by-position"])
    assert told.exit_code == 0, told.stderr


def test_stores_without_ids_are_given_some_on_the_command_line(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text(saved, TEXTS, tmp_path / "a.zarr")
    text(saved, TEXTS[::-1], tmp_path / "b.zarr")
    (tmp_path / "a.txt").write_text("p\nq\nr\ns\nt\n")
    (tmp_path / "b.txt").write_text("t\ns\nr\nq\np\n")
    given = ["compare", "a.zarr", "b.zarr", "--measure", "cka", "--permutations", "0", "--json"]
    done = CliRunner().invoke(commands, [*given, "--ids", "a=a.txt", "--ids", "b=b.txt"])
    assert done.exit_code == 0, done.stderr
    (found,) = json.loads(done.stdout)["comparisons"]
    assert found["matched_by"] == "ids"
    assert found["value"] == pytest.approx(1, abs=1e-4)
    done = CliRunner().invoke(commands, [*given, "--ids", "a=a.txt", "--ids", "b=none.txt"])
    assert done.exit_code == 2
    assert "there is no text file none.txt" in done.stderr
    store = open_features(tmp_path / "a.zarr")
    named = store.with_ids(list("pqrst"))
    assert (named.ids, named["layer_3"].ids) == (tuple("pqrst"), tuple("pqrst"))
    assert (named.contents, store.ids) == (store.contents, None)


def test_an_old_or_stale_store_is_told_in_the_words_of_the_command(
    saved: Saved, tmp_path: Path
) -> None:
    save(tmp_path / "photos", pixels(0, 3))
    out = tmp_path / "a.zarr"
    given = ["extract", str(saved("vit")), str(tmp_path / "photos"), "-o", str(out)]
    given += ["--layers", "last", "--device", "cpu"]
    assert CliRunner().invoke(commands, given).exit_code == 0
    save(tmp_path / "photos", pixels(1, 3))
    stale = CliRunner().invoke(commands, [*given, "--resume", "trust"])
    assert "3 of 3 have other content" in stale.stderr
    as_version_1(out, ["000.png", "001.png", "002.png"])
    old = CliRunner().invoke(commands, given)
    assert "format version 1" in old.stderr
    for done in (stale, old):
        assert done.exit_code == 2
        assert "replace it with --force" in done.stderr
        assert "overwrite" not in done.stderr
    assert CliRunner().invoke(commands, [*given, "--force"]).exit_code == 0


def test_models_are_compared_on_the_sentences_that_were_named(saved: Saved, tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS))
    given = ["compare-models", str(saved("bert")), str(saved("gpt2")), str(path)]
    given += ["-o", str(tmp_path / "page.html"), "--permutations", "9", "--device", "cpu"]
    done = CliRunner().invoke(commands, given)
    assert done.exit_code == 0, done.stderr
    assert "matched by position" in done.stdout
    path.write_text("\n".join(TEXTS[::-1]))
    given[given.index("-o") + 1] = str(tmp_path / "again.html")
    given += ["--features", str(tmp_path / "page-features")]
    stale = CliRunner().invoke(commands, given)
    assert stale.exit_code == 2
    assert "the same in another order" in stale.stderr
    assert "--force" in stale.stderr
    assert "overwrite" not in stale.stderr
    # Features of other sentences in a store that is named are not mixed with them.
    given[1] = str(tmp_path / "page-features" / "bert.zarr")
    given[given.index("--features") + 1] = str(tmp_path / "others")
    mixed = CliRunner().invoke(commands, given)
    assert mixed.exit_code == 2
    assert "bert and gpt2 hold the same items in different orders" in mixed.stderr


def test_photographs_of_one_name_and_other_content_are_told(tmp_path: Path) -> None:
    save(tmp_path / "photos", pixels(0, 20))
    a = extract(tmp_path / "photos", tmp_path / "a.zarr")
    changed = pixels(0, 20)
    changed[3] //= 2
    save(tmp_path / "photos", changed)
    b = extract(tmp_path / "photos", tmp_path / "b.zarr")
    with pytest.warns(ItemContentWarning, match=r"1 of 20 items have the same id .*'003\.png'"):
        relspace.compare_layers(a.pool("mean"), b.pool("mean"), n_permutations=0)


def test_only_ends_of_lines_end_a_text(saved: Saved, tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    lines = ["a\u2028red house", "the\u2029bird\x0csings", "a\u0085river\x0bfalls", "the\x1ctree"]
    path.write_bytes("\ufeffthe blue river\r\n".encode() + "\n".join(lines).encode())
    items = open_items("text", path, None)
    assert [items.load(i) for i in range(len(items))] == ["the blue river", *lines]
    assert items.lines == (1, 2, 3, 4, 5)
    path.write_bytes(b"a house\rthe bird\r\n\r\n \t\na tree\n\n")
    with pytest.warns(BlankLinesWarning, match="2 of 5 lines of .* blank .* lines 3, 4"):
        items = open_items("text", path, None)
    assert [items.load(i) for i in range(3)] == ["a house", "the bird", "a tree"]
    with pytest.warns(BlankLinesWarning):
        fs = text(saved, path, tmp_path / "a.zarr")
    assert fs.lines == (1, 2, 5)
    assert fs.select(images=[2, 0]).lines == (5, 1)
    assert open_features(tmp_path / "a.zarr").lines == (1, 2, 5)


def test_texts_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"1 of 2 texts are blank, in rows 1"):
        open_items("text", ["a", " \n"], None)
    with pytest.raises(InvalidInputError, match="is a folder; a text model takes"):
        open_items("text", tmp_path, None)
    (tmp_path / "a.txt").write_bytes(b"a house\n\xff\xfe")
    with pytest.raises(FileFormatError, match=r"no text in UTF-8 .byte 8"):
        open_items("text", tmp_path / "a.txt", None)
    (tmp_path / "b.txt").write_text("\n\n")
    with pytest.raises(InvalidInputError, match="there are no texts"):
        open_items("text", tmp_path / "b.txt", None)


def as_version_1(path: Path, ids: list[str]) -> None:
    """Make of a store what was written before items were identified."""
    root = zarr.open_group(path, mode="r+")
    header = dict(root.attrs)["relspace"]
    header["format_version"] = 1
    job = header.pop("job")
    header.pop("items")
    header["extraction"] = {key: job[key] for key in job if key != "ids"} | {"items": "0" * 32}
    for name in ("ledger", "digests", "ids"):
        if name in root:
            del root[name]
    listed = root.create_array("ids", shape=(len(ids),), chunks=(len(ids),), dtype=str)
    listed[...] = np.array(ids, dtype=object)
    root.attrs["relspace"] = header


def test_stores_of_the_first_version_are_opened_and_not_resumed(tmp_path: Path) -> None:
    out = tmp_path / "a.zarr"
    before = extract(pixels(0, 3), out)
    as_version_1(out, ["0", "1", "2"])
    found = open_features(out)
    assert torch.equal(found["1"].tokens(), before["1"].tokens())
    # What was only counted is no id.
    assert (found.ids, found.contents) == (None, None)
    with pytest.raises(OtherExtractionError, match=r"format version 1, .* can be opened"):
        extract(pixels(0, 3), out)
    as_named = tmp_path / "b.zarr"
    extract(pixels(0, 3), as_named)
    as_version_1(as_named, ["a", "b", "c"])
    assert open_features(as_named).ids == ("a", "b", "c")
    assert len(extract(pixels(0, 3), out, overwrite=True)) == 3


def test_a_store_that_is_replaced_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.zarr"
    extract(pixels(0, 3), out)

    def cut_off(*_: object, **__: object) -> None:
        raise ConnectionError("killed")

    # It stays until another one can take its place.
    with monkeypatch.context() as patched:
        patched.setattr(relspace.ModuleModel, "forward", cut_off)
        with pytest.raises(ConnectionError):
            extract(pixels(1, 3), out, overwrite=True)
    assert len(extract(pixels(0, 3), out)) == 3
    with monkeypatch.context() as patched:
        # What is removed at the end is the old one, under another name.
        patched.setattr(
            "relspace.rows.replacing.shutil.rmtree",
            lambda path, **given: path.exists() and cut_off(),
        )
        with pytest.raises(ConnectionError):
            extract(pixels(1, 3), out, overwrite=True)
    assert out.exists()
    again = extract(pixels(1, 3), out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr"]
    assert torch.equal(again["1"].tokens(), features(pixels(1, 3), tmp_path))
