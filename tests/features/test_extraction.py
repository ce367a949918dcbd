"""Extraction into stores: what is stored, going on after a kill, and what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
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
from relspace.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    NonFiniteError,
    UnknownNameError,
)
from relspace.features import (
    FeatureSet,
    SkippedImageWarning,
    StoreLockedError,
    UnreadableImageError,
    choose_positions,
    extraction,
    open_features,
    read,
)
from relspace.features.items import identify_items, open_items
from relspace.features.loader import load_ahead
from relspace.features.store.reading import StoredLayer
from relspace.features.store.writing import FeatureStoreWriter, refuse_what_does_not_fit
from relspace.rows.identity import Identity

Saved = Callable[[str], Path]
ROOT = Path(__file__).resolve().parents[2]


def extract(saved: Saved, photos: object, out: Path, family: str = "dinov2", **options):
    given = {"device": "cpu", "batch_size": 2} | options
    return relspace.extract(saved(family), photos, out, **given)


def test_layers_come_from_input_to_output_however_they_are_listed(
    saved: Saved, photos: Path, tmp_path: Path
) -> None:
    fs = extract(saved, photos, tmp_path / "f.zarr", layers=[-1, "layer_1", 0])
    of_all = list(extract(saved, photos, tmp_path / "all.zarr").layers)
    assert list(fs.layers) == [name for name in of_all if name in fs.layers]
    assert len(fs.layers) == 3


def contents(store: Path) -> dict[str, bytes]:
    """All that a store holds, but what its files looked like when it was complete."""
    ledger = zarr.open_group(store, mode="r")["ledger"]
    last = f"ledger/c/{ledger.shape[0] // ledger.chunks[0] - 1}"
    found = {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file()
    }
    return {name: content for name, content in found.items() if name != last}


def test_a_store_holds_what_the_model_gives(saved: Saved, photos: Path, tmp_path: Path) -> None:
    fs = extract(saved, photos, tmp_path / "a.zarr", store_dtype="float32")
    model = relspace.load_model(saved("dinov2"), device="cpu")
    paths = sorted(photos.iterdir())
    images = [Image.open(path).convert("RGB") for path in paths]
    features = model.forward([model.prepare(image)[0] for image in images], model.layers)
    assert isinstance(fs, FeatureSet)
    assert fs.layers == model.layers
    assert fs.ids == tuple(path.name for path in paths)
    assert fs.vectors == (*(f"{layer}.class" for layer in model.layers), "pooled")
    assert fs.image_sizes.tolist() == [[image.height, image.width] for image in images]
    for name, expected in features.items():
        own = fs[name].maps() if expected.ndim == 4 else fs[name].tokens()
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)
    half = extract(saved, photos, tmp_path / "b.zarr", layers=["layer_2"])
    assert half["layer_2"].dtype == torch.float16
    torch.testing.assert_close(
        half["layer_2"].tokens().float(), fs["layer_2"].tokens(), rtol=1e-3, atol=1e-4
    )
    assert fs.metadata["model"] == "dinov2"
    assert fs.metadata["preprocessing"]["crop"] == [35, 35]
    assert "torch" in fs.metadata["versions"]


def test_stores_are_read_by_plain_zarr_and_xarray(
    saved: Saved, photos: Path, tmp_path: Path
) -> None:
    fs = extract(saved, photos, tmp_path / "a.zarr")
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    array = group["layers/layer_1"]
    assert array.metadata.dimension_names == ("item", "row", "column", "feature")
    np.testing.assert_array_equal(array[...].reshape(-1, 32), fs["layer_1"].tokens())
    assert tuple(group["ids"][...]) == fs.ids
    np.testing.assert_array_equal(group["boxes"][0], fs.grid.boxes)
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    data = xarray.open_zarr(tmp_path / "a.zarr", group="layers", consolidated=False)
    np.testing.assert_array_equal(data["layer_1"].values, array[...])


def test_features_are_read_lazily_and_in_parts(saved: Saved, photos: Path, tmp_path: Path) -> None:
    extract(saved, photos, tmp_path / "a.zarr")
    fs = open_features(str(tmp_path / "a.zarr"))
    whole = fs["layer_3"].tokens()
    assert torch.equal(fs["layer_3"].read(17, 40), whole[17:40])
    chosen = fs.select(images=["photo_3.png", "photo_0.png", "photo_3.png"][:2])
    expected = whole.reshape(5, 16, -1)[[3, 0]].reshape(32, -1)
    assert torch.equal(chosen.tokens(layer="layer_3"), expected)
    assert torch.equal(
        fs.tokens(layer="layer_3", images=[4, 1]), whole.reshape(5, 16, -1)[[4, 1]].reshape(32, -1)
    )
    np.testing.assert_array_equal(np.asarray(fs["layer_3"]), whole)


def test_places_agree_between_models(saved: Saved, photos: Path, tmp_path: Path) -> None:
    families = {name: saved(name) for name in ("dinov2", "clip", "sam", "resnet")}
    sets = relspace.extract(families, photos, tmp_path / "out", device="cpu", layers=["layer_3"])
    assert list(sets) == list(families)
    assert len({fs.ids for fs in sets.values()}) == 1
    places = choose_positions({name: fs.grid for name, fs in sets.items()}, 30)
    for fs in sets.values():
        assert fs.read_positions(places).shape == (30, fs["layer_3"].shape[1])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("clip.zarr", "dinov2.zarr", "resnet.zarr", "sam.zarr"),
    ]


KILLED = """
import os, signal, sys
from pathlib import Path
from typing import Any
sys.path.insert(0, {root!r})
import relspace
from relspace.features import extraction
from relspace.features.models.vision import VisionModel
from relspace.features.store.writing import FeatureStoreWriter

extraction._CHUNK_BYTES = 1
calls = 0

def die_at(function, last):
    def counted(*args, **kwargs):
        global calls
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return counted

if sys.argv[1] == "forward":
    VisionModel.forward = die_at(VisionModel.forward, 4)
else:
    import zarr
    zarr.Array.__setitem__ = die_at(zarr.Array.__setitem__, int(sys.argv[1]))
relspace.extract({model!r}, {photos!r}, {out!r}, batch_size=1, device="cpu")
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["forward", "20", pytest.param("33", marks=pytest.mark.release)])
def test_an_extraction_that_was_killed_goes_on_to_the_same_store(
    saved: Saved, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(extraction, "_CHUNK_BYTES", 1)
    whole, cut = tmp_path / "whole.zarr", tmp_path / "cut.zarr"
    extract(saved, photos, whole, batch_size=1)
    script = KILLED.format(
        root=str(ROOT / "src"), model=str(saved("dinov2")), photos=str(photos), out=str(cut)
    )
    done = subprocess.run([sys.executable, "-c", script, where], timeout=600, check=False)
    assert done.returncode == -signal.SIGKILL
    assert contents(cut) != contents(whole)
    with pytest.raises(FileFormatError, match=r"is unfinished, \d of 5 items are missing"):
        open_features(cut)
    n_present = len(open_features(cut, partial=True))
    # What a kill in the middle of a write would leave behind.
    (cut / "layers" / "layer_0" / "c").mkdir(parents=True, exist_ok=True)
    (cut / "layers" / "layer_0" / "c" / "0.abc.partial").write_bytes(b"half")
    seen: list[tuple[int, int, str]] = []
    extract(saved, photos, cut, batch_size=1, progress=lambda *one: seen.append(one))
    assert contents(cut) == contents(whole)
    counted = [done for done, total, text in seen if text.startswith("Extracting")]
    assert counted == list(range(n_present, 6))


def test_a_whole_store_is_opened_without_running_the_model(
    saved: Saved, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(saved, photos, tmp_path / "a.zarr")
    model = relspace.load_model(saved("dinov2"), device="cpu")
    monkeypatch.setattr(type(model), "forward", None)
    fs = relspace.extract(model, photos, tmp_path / "a.zarr", batch_size=2)
    assert len(fs) == 5


@pytest.mark.parametrize(
    ("options", "different"),
    [
        ({"layers": "last"}, "layers"),
        ({"store_dtype": "float32"}, "store_dtype"),
        ({"family": "dinov2_registers"}, "weights"),
    ],
)
def test_another_extraction_is_refused_or_replaced(
    saved: Saved, photos: Path, tmp_path: Path, options: dict, different: str
) -> None:
    out = tmp_path / "a.zarr"
    extract(saved, photos, out)
    with pytest.raises(InvalidInputError, match=f"another extraction.*{different}"):
        extract(saved, photos, out, **options)
    assert len(open_features(out).layers) == 4
    fs = extract(saved, photos, out, overwrite=True, **options)
    assert len(fs) == 5
    assert not (tmp_path / ".a.zarr.new").exists()


def test_what_is_no_store_is_never_replaced(saved: Saved, photos: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    with pytest.raises(FileFormatError, match="name another output"):
        extract(saved, photos, precious, overwrite=True)
    assert (precious / "thesis.txt").exists()
    with pytest.raises(FileFormatError, match="is a file"):
        extract(saved, photos, precious / "thesis.txt", overwrite=True)
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(FileFormatError, match="no feature store"):
        open_features(tmp_path / "other.zarr")
    with pytest.raises(FileNotFoundError, match="no feature store"):
        open_features(tmp_path / "missing.zarr")


def writer(path: Path, name: str = "a") -> FeatureStoreWriter:
    items = identify_items(open_items("text", list("abcd"), list("abcd")))
    network = Identity("content", "the same").record()
    job = {"model": "x", "store_dtype": "float16", "network": network}
    shared = {"items": items, "job": job}
    found = FeatureStoreWriter.resume(path, **shared)
    if found is not None:
        return found
    layers, regions = [StoredLayer(name, (3,))], [(0.0, 0.0, 1.0, 1.0)]
    return FeatureStoreWriter.create(path, layers=layers, regions=regions, chunk_items=2, **shared)


def write_all(store: FeatureStoreWriter) -> None:
    for chunk in store.missing():
        checksum = store.write(
            chunk,
            {store.layers[0].name: np.ones((2, 3), dtype="float16")},
            image_sizes=np.ones((2, 2), dtype=np.int64),
            boxes=np.zeros((1, 2, 4)),
        )
        store.mark(chunk, np.ones(2, dtype=np.uint8), {}, checksum)


def test_two_writers_refuse_each_other(tmp_path: Path) -> None:
    with writer(tmp_path / "a.zarr") as first:
        with pytest.raises(StoreLockedError, match="another process is writing"):
            writer(tmp_path / "a.zarr")
        write_all(first)
    with writer(tmp_path / "a.zarr") as second:
        assert second.missing() == []


def test_a_damaged_chunk_is_noticed(tmp_path: Path) -> None:
    with writer(tmp_path / "a.zarr") as store:
        write_all(store)
    path = tmp_path / "a.zarr" / "layers" / "a" / "c" / "0" / "0"
    path.write_bytes(path.read_bytes()[:-3] + b"abc")
    with pytest.raises(FileFormatError, match=r"a\.zarr can't be read as Zarr.*checksum"):
        open_features(tmp_path / "a.zarr")["a"].tokens()


@pytest.mark.parametrize("missing", ["layers/0", "boxes", "image_sizes", "digests", "ids"])
def test_a_chunk_that_is_gone_is_not_read_as_nan(tmp_path: Path, missing: str) -> None:
    photos = [str(tmp_path / f"{name}.png") for name in "abc"]
    for i, name in enumerate(photos):
        Image.new("RGB", (16, 16), (80 * i, 0, 0)).save(name)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, 8))
    preprocessing = relspace.Preprocessing(size=(16, 16))
    model = relspace.ModuleModel(network, ["0"], layout="bchw", preprocessing=preprocessing)
    out = tmp_path / "f.zarr"
    assert torch.isfinite(relspace.extract(model, photos, out)["0"].tokens()).all()
    for chunk in (out / missing / "c").rglob("*"):
        if chunk.is_file():
            chunk.unlink()
    with pytest.raises(FileFormatError, match=r"f\.zarr is damaged.*: extract again"):
        open_features(out)["0"].read(0, 1)
    with pytest.raises(FileFormatError, match=r"f\.zarr is damaged.*: extract again"):
        open_features(out)["0"].tokens(torch.tensor([2, 0]))


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    with writer(tmp_path / "a.zarr") as store:
        write_all(store)
    path = tmp_path / "a.zarr" / "zarr.json"
    path.write_text(path.read_text().replace('"format_version": 2', '"format_version": 99'))
    with pytest.raises(FileFormatError, match="format version 99"):
        open_features(tmp_path / "a.zarr")


@pytest.mark.parametrize("name", ["blocks.3", "a/b", "../up", "ünï code", "*"])
def test_names_of_layers_can_be_anything_but_a_way_out(tmp_path: Path, name: str) -> None:
    with writer(tmp_path / "a.zarr", name) as store:
        write_all(store)
    assert open_features(tmp_path / "a.zarr").layers == (name,)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    with pytest.raises(InvalidInputError, match="can't be called"):
        _ = StoredLayer("..", (3,)).key


def test_values_that_a_store_can_not_hold_are_an_error() -> None:
    values = np.ones((3, 4))
    values[1, 2] = 1e5
    with (
        np.errstate(over="ignore"),
        pytest.raises(
            NonFiniteError,
            match=r"exceed 65504.*in layer_1 for 1 items, the first b: store float32",
        ),
    ):
        refuse_what_does_not_fit(values.astype(np.float16), "layer_1", list("abc"))
    refuse_what_does_not_fit(values.astype(np.float32), "layer_1", list("abc"))
    refuse_what_does_not_fit(np.full((3, 4), -65504, np.float16), "layer_1", list("abc"))
    for bad in (np.nan, np.inf):
        values[1, 2] = bad
        with pytest.raises(NonFiniteError, match="NaN or infinity in layer_1 for 1 items, the fir"):
            refuse_what_does_not_fit(values.astype(np.float32), "layer_1", list("abc"))
    values[1, 2] = np.nan
    with pytest.raises(NonFiniteError, match="the model gives NaN"):
        refuse_what_does_not_fit(values.astype(np.float16), "layer_1", list("abc"))


def test_an_extraction_whose_values_do_not_fit_ends(
    saved: Saved, photos: Path, tmp_path: Path
) -> None:
    model = relspace.load_model(saved("dinov2"), device="cpu")
    with torch.no_grad():
        model.module.embeddings.cls_token.fill_(1e6)
    with pytest.raises(NonFiniteError, match=r"in layer_0\.class for 5 items"):
        relspace.extract(model, photos, tmp_path / "a.zarr", layers=[0])
    fs = relspace.extract(model, photos, tmp_path / "b.zarr", layers=[0], store_dtype="float32")
    assert float(fs["layer_0.class"].tokens().max()) > 65504


def test_images_that_can_not_be_read(saved: Saved, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in photos.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "photo_1b.png").write_bytes(b"not an image")
    (folder / "photo_9.jpg").touch()
    with pytest.raises(UnreadableImageError, match=r"photo_1b\.png can't be read"):
        extract(saved, folder, tmp_path / "a.zarr")
    with pytest.warns(SkippedImageWarning, match=r"2 of 7 images .* skipped: 'photo_1b\.png'"):
        fs = extract(saved, folder, tmp_path / "b.zarr", on_error="skip")
    clean = extract(saved, photos, tmp_path / "c.zarr")
    assert fs.ids == clean.ids
    assert torch.equal(fs.image_sizes, clean.image_sizes)
    torch.testing.assert_close(fs["layer_3"].tokens(), clean["layer_3"].tokens())
    header = zarr.open_group(tmp_path / "b.zarr", mode="r").attrs["relspace"]
    assert list(header["skipped"]) == ["photo_1b.png", "photo_9.jpg"]


def test_bad_arguments(saved: Saved, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.zarr"
    with pytest.raises(InvalidInputError, match="batch_size"):
        extract(saved, photos, out, batch_size=0)
    with pytest.raises(InvalidInputError, match="one of float16, float32"):
        extract(saved, photos, out, store_dtype="bfloat16")
    with pytest.raises(InvalidInputError, match="one of raise, skip"):
        extract(saved, photos, out, on_error="ignore")
    with pytest.raises(UnknownNameError, match="no layer 'layer_77'"):
        extract(saved, photos, out, layers=["layer_77"])
    with pytest.raises(InvalidTypeError, match="model is 7"):
        relspace.extract(7, photos, out)
    with pytest.raises(InvalidInputError, match="stores are named so"):
        relspace.extract({"../a": saved("dinov2")}, photos, out)
    with pytest.raises(InvalidInputError, match="have the same name"):
        relspace.extract([saved("dinov2"), saved("dinov2")], photos, out)
    assert list(tmp_path.iterdir()) == []


def test_batches_are_loaded_ahead_in_order_and_no_further() -> None:
    started: set[int] = set()
    lock = threading.Lock()

    def load(i: int) -> int:
        with lock:
            started.add(i)
        return i

    batches = [range(i, i + 4) for i in range(0, 80, 4)]
    loaded = load_ahead(load, batches, n_threads=4, ahead=2)
    assert next(loaded) == [0, 1, 2, 3]
    assert max(started) < 12
    assert [item for batch in loaded for item in batch] == list(range(4, 80))


def test_an_item_that_fails_ends_the_loading() -> None:
    def load(i: int) -> int:
        if i == 5:
            raise ValueError("broken")
        return i

    loaded = load_ahead(load, [range(4), range(4, 8), range(8, 12)])
    assert next(loaded) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="broken"):
        next(loaded)


def test_stores_are_aligned_by_their_places(
    saved: Saved, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for family in ("dinov2", "sam"):
        extract(saved, photos, tmp_path / f"{family}.zarr", family)
    monkeypatch.chdir(tmp_path)
    arguments = ["align", "dinov2.zarr", "sam.zarr", "-o", "space.safetensors", "--landmarks", "90"]
    result = CliRunner().invoke(commands, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["item"], summary["matched_by"]) == ("image", "ids")
    space = relspace.load_space("space.safetensors")
    assert isinstance(space, relspace.TokenSpace)
    for name in ("dinov2", "sam"):
        fs = open_features(tmp_path / f"{name}.zarr")
        layer = fs[fs.layers[-1]]
        assert space.grid(name) == layer.grid
        assert space[name].shape == (len(layer), 90)
        torch.testing.assert_close(
            torch.as_tensor(space.transform(name, layer.tokens().float())), space[name]
        )
    lines = CliRunner().invoke(commands, [*arguments, "--force"]).stdout.splitlines()
    assert lines[-2].startswith(f"{space.n_images} images matched by ids, 90 positions in them are")


def test_ids_come_from_the_store(saved: Saved, photos: Path, tmp_path: Path) -> None:
    extract(saved, photos, tmp_path / "a.zarr")
    with pytest.raises(InvalidInputError, match="brings its ids"):
        read(tmp_path / "a.zarr", ids="names.txt")
    with pytest.raises(UnknownNameError, match="layer_99"):
        read(tmp_path / "a.zarr", key="layer_99")


LOST = """
import os, signal, sys
sys.path.insert(0, {root!r})
import relspace
from relspace.features.models.module import ModuleModel
from relspace.features.models.text import TextModel

calls = 0

def counted(function):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == {last}:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call

TextModel.forward = counted(TextModel.forward)
relspace.extract({model!r}, {items!r}, {out!r}, device="cpu", layers="last")
"""


@pytest.mark.slow
def test_a_killed_run_loses_a_tenth_of_the_work_at_most(saved: Saved, tmp_path: Path) -> None:
    """3,000 texts stopped at 1,856 were begun from zero."""
    words = ["a", "red", "blue", "small", "house", "bird", "tree", "river", "sings", "falls"]
    texts = [f"{a} {b} {c}" for a in words for b in words for c in words] * 3
    path, cut = tmp_path / "texts.txt", tmp_path / "cut.zarr"
    path.write_text("\n".join(texts))
    script = LOST.format(
        root=str(ROOT / "src"), last=117, model=str(saved("bert")), items=str(path), out=str(cut)
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=600, check=False)
    assert done.returncode == -signal.SIGKILL
    kept = len(open_features(cut, partial=True))
    assert kept >= 116 * 16 - 300
    told: list[tuple[int, int, str]] = []
    given = {"device": "cpu", "layers": "last", "progress": lambda *one: told.append(one)}
    found = relspace.extract(saved("bert"), path, cut, **given)
    counted = [done for done, _, text in told if text.startswith("Extracting")]
    assert (counted[0], counted[-1]) == (kept, 3000)
    whole = relspace.extract(saved("bert"), path, tmp_path / "whole.zarr", **given)
    assert torch.equal(found["layer_3"].tokens(), whole["layer_3"].tokens())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # 5 % of 400 items are one batch of 16 and a bit.
        ((400, 16, 1000, 0.1, 2), 16),
        ((3000, 16, 1000, 0.1, 2), 144),
        # Less than a batch is never written.
        ((40, 16, 1000, 0.1, 2), 16),
        # 64 MiB of features.
        ((10**6, 16, 2**20, 0.1, 2), 64),
        ((10**6, 16, 2**30, 0.1, 2), 16),
        # 15 seconds of work, or a thousand chunks where that would be more.
        ((20_000, 16, 1000, 5.0, 2), 48),
        ((10**6, 16, 1000, 60.0, 2), 1008),
        # What all threads of a cluster have in hand is a tenth, too.
        ((10_000, 10, 1000, 0.1, 50), 20),
    ],
)
def test_what_a_killed_run_may_lose_is_bounded(
    given: tuple[int, int, int, float, int], expected: int
) -> None:
    n, batch, n_bytes, seconds, at_once = given
    found = extraction.chunk_items(
        n, batch, bytes_per_item=n_bytes, seconds_per_batch=seconds, at_once=at_once
    )
    assert found == expected
    assert found == batch or found * at_once <= n / 10
    assert found == batch or found * n_bytes <= 64 * 2**20


def test_a_chunk_of_images_that_are_all_skipped_is_skipped(saved: Saved, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = list(rng.random((9, 16, 16, 3)).astype(np.float32))
    for row in (3, 4, 5):
        images[row][0, 0, 0] = 2.0
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 4, 8, 8)
    preprocessing = relspace.Preprocessing(size=(16, 16))
    model = relspace.ModuleModel(
        torch.nn.Sequential(network), ["0"], layout="bchw", preprocessing=preprocessing
    )
    with pytest.warns(SkippedImageWarning, match=r"3 of 9 images .* 'row 3', 'row 4', 'row 5'"):
        fs = relspace.extract(
            model, images, tmp_path / "a.zarr", batch_size=3, on_error="skip", store_dtype="float32"
        )
    kept = [image for row, image in enumerate(images) if row not in (3, 4, 5)]
    clean = relspace.extract(model, kept, tmp_path / "b.zarr", batch_size=3, store_dtype="float32")
    assert fs.contents == clean.contents
    torch.testing.assert_close(fs["0"].tokens(), clean["0"].tokens())


def extracted(items: object, out: Path, **given: Any) -> Any:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, 8))
    model = relspace.ModuleModel(
        network, "0", layout="bchw", preprocessing=relspace.Preprocessing(size=(16, 16))
    )
    return relspace.extract(model, items, out, **given)


@pytest.mark.parametrize("ids", [[7, 0, 12], ["7", "0", "12"], [2**70, -1, 3]])
def test_ids_come_back_in_the_type_that_they_were_given(ids: list[Any], tmp_path: Path) -> None:
    images, out = np.zeros((3, 16, 16, 3), np.uint8), tmp_path / "a.zarr"
    assert extracted(images, out, ids=ids).ids == tuple(ids)
    assert relspace.open_features(out).ids == tuple(ids)
    assert extracted(images, out, ids=np.array(ids, dtype=object)).ids == tuple(ids)
    with pytest.raises(relspace.features.OtherExtractionError, match=r"1 gone .*, 1 new \('?5'?\)"):
        extracted(images, out, ids=[5, *map(int, ids[1:])])


def test_stores_that_hold_whole_numbers_as_text_are_read_and_resumed(tmp_path: Path) -> None:
    images, out = np.zeros((3, 16, 16, 3), np.uint8), tmp_path / "a.zarr"
    extracted(images, out, ids=[7, 0, 12])
    root = zarr.open_group(out, mode="r+")
    header = dict(root.attrs)["relspace"]
    del header["items"]["ids"]
    root.attrs["relspace"] = header
    assert relspace.open_features(out).ids == ("7", "0", "12")
    assert extracted(images, out, ids=[7, 0, 12]).ids == ("7", "0", "12")


def test_images_of_which_none_can_be_read_are_an_error_that_says_why(tmp_path: Path) -> None:
    folder, out = tmp_path / "photos", tmp_path / "a.zarr"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (folder / name).write_bytes(b"no image")
    for _ in range(2):
        with pytest.raises(UnreadableImageError, match=r"none of the 3 images .*first: .*a\.png"):
            extracted(folder, out, on_error="skip")
    with pytest.raises(FileFormatError, match=r"holds no items; 3 were skipped, .*a\.png"):
        relspace.open_features(out)
