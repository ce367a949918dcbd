"""Extraction on a cluster of separate processes: the same store, whatever becomes of workers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from distributed import Client
from PIL import Image

import relspace
from relspace.cli import commands
from relspace.errors import InvalidInputError, RelspaceError
from relspace.features import SkippedImageWarning, StoreLockedError, extraction, open_features
from relspace.features.store.reading import read_header
from relspace.features.store.writing import FeatureStoreWriter

pytestmark = pytest.mark.slow

Saved = Callable[[str], Path]
N_PHOTOS = 24


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "_CHUNK_BYTES", 1)


@pytest.fixture(scope="module")
def many_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    for i in range(N_PHOTOS):
        pixels = rng.integers(0, 255, size=(40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return folder


def same_features(one: Path, other: Path) -> None:
    """Features of workers, whose products are summed by another number of threads."""
    first, second = open_features(one), open_features(other)
    assert first.layers == second.layers
    assert first.ids == second.ids
    for layer in first.layers:
        a, b = (np.asarray(fs[layer], dtype=np.float32) for fs in (first, second))
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3)


def test_workers_write_the_store_that_one_machine_writes(
    client: Client, saved: Saved, many_photos: Path, tmp_path: Path
) -> None:
    given = {"device": "cpu", "batch_size": 3, "layers": [0, -1]}
    relspace.extract(saved("dinov2"), many_photos, tmp_path / "one.zarr", **given)
    told: list[tuple[int, int, str]] = []
    relspace.extract(
        saved("dinov2"),
        many_photos,
        tmp_path / "many.zarr",
        client=client,
        progress=lambda *one: told.append(one),
        **given,
    )
    same_features(tmp_path / "one.zarr", tmp_path / "many.zarr")
    assert told[-1][:2] == (N_PHOTOS, N_PHOTOS)


def test_a_lost_worker_costs_its_chunks_only(
    client: Client, saved: Saved, many_photos: Path, tmp_path: Path
) -> None:
    model, given = saved("vit"), {"device": "cpu", "batch_size": 1}
    relspace.extract(model, many_photos, tmp_path / "one.zarr", **given)
    victims = [worker["pid"] for worker in client.run(lambda: {"pid": os.getpid()}).values()]
    killed = threading.Event()

    def kill_one(done: int, total: int, text: str) -> None:
        # Told when the first chunk has been marked: the others are under way.
        if text.startswith("Extracting") and done and not killed.is_set():
            killed.set()
            os.kill(victims[0], signal.SIGKILL)

    relspace.extract(
        model, many_photos, tmp_path / "many.zarr", client=client, progress=kill_one, **given
    )
    assert killed.is_set()
    same_features(tmp_path / "one.zarr", tmp_path / "many.zarr")


def test_what_is_there_is_left_and_the_lock_is_held(
    client: Client, saved: Saved, many_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"device": "cpu", "batch_size": 4, "client": client}
    out = tmp_path / "a.zarr"
    marked: list[slice] = []
    mark = FeatureStoreWriter.mark

    def stop_after_two(self: FeatureStoreWriter, chunk: slice, *rest: object) -> None:
        if len(marked) == 2:
            with pytest.raises(StoreLockedError):
                relspace.extract(saved("vit"), many_photos, out, device="cpu", batch_size=4)
            raise KeyboardInterrupt
        marked.append(chunk)
        mark(self, chunk, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(FeatureStoreWriter, "mark", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            relspace.extract(saved("vit"), many_photos, out, **given)
    assert len(open_features(out, partial=True)) == 8
    monkeypatch.setattr(
        FeatureStoreWriter,
        "mark",
        lambda self, chunk, *rest: (marked.append(chunk), mark(self, chunk, *rest))[1],
    )
    assert len(relspace.extract(saved("vit"), many_photos, out, **given)) == N_PHOTOS
    assert sorted(chunk.start for chunk in marked) == list(range(0, N_PHOTOS, 4))


def test_a_worker_that_is_late_writes_into_no_other_store(
    saved: Saved, many_photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.zarr"
    given = {"device": "cpu", "batch_size": 4}
    relspace.extract(saved("vit"), many_photos, out, layers="last", **given)
    job = read_header(out)[1]["job"]
    FeatureStoreWriter.join(out, job)
    with pytest.raises(InvalidInputError, match="another extraction; different are layers"):
        FeatureStoreWriter.join(out, job | {"layers": ["layer_0"]})


def test_images_that_workers_can_not_read_are_named(
    client: Client, saved: Saved, many_photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted(many_photos.iterdir())[:6]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "04.png").write_bytes(b"nothing")
    given = {"device": "cpu", "batch_size": 2, "client": client}
    with pytest.raises(RelspaceError, match=r"04\.png"):
        relspace.extract(saved("vit"), folder, tmp_path / "a.zarr", **given)
    with pytest.warns(SkippedImageWarning, match=r"04\.png"):
        found = relspace.extract(
            saved("vit"), folder, tmp_path / "b.zarr", on_error="skip", **given
        )
    assert len(found) == 5


def test_on_the_command_line(
    client: Client, saved: Saved, many_photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cli.zarr"
    result = CliRunner().invoke(
        commands,
        [
            *("extract", str(saved("vit")), str(many_photos), "-o", str(out)),
            *("--device", "cpu", "--layers", "last"),
            *("--scheduler", client.scheduler.address),
        ],
    )
    assert result.exit_code == 0, result.output
    assert f"{N_PHOTOS} items" in result.output
    assert len(open_features(out)) == N_PHOTOS
