"""Stores at URLs, written and read in fsspec's memory and on a server that speaks S3."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
import zarr
from fsspec.registry import known_implementations

import relspace as rs
from relspace.errors import FileFormatError, InvalidInputError, MissingDependencyError
from relspace.features import scan
from relspace.rows.source import GeneratedRows

N, D = 500, 12
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


def test_a_store_at_a_url_is_gone_on_with_and_read(place: str) -> None:
    aligner = rs.Aligner().fit(X[:40])
    made: list[int] = []

    def source(fails_at: int) -> GeneratedRows:
        def make(start: int, stop: int) -> np.ndarray:
            if start == fails_at:
                raise OSError("the link is down")
            made.append(start)
            return X[start:stop]

        return GeneratedRows((N, D), make, ids=tuple(range(N)))

    out = rs.Output(f"{place}/aligned.zarr", chunk_rows=50, resume="trust")
    with pytest.raises(OSError, match="the link is down"):
        aligner.transform(source(200), out=out)
    made.clear()
    result = aligner.transform(source(-1), out=out)
    assert [start for start in made if start % 50 == 0 and start] == list(range(200, N, 50))
    np.testing.assert_allclose(result.read(0, N), aligner.transform(X), atol=1e-6)
    with pytest.raises(InvalidInputError, match="another job; different are"):
        aligner.transform(X + 1, out=rs.Output(out.path))
    replaced = aligner.transform(X[:100], out=rs.Output(out.path, overwrite=True))
    assert replaced.shape == (100, 40)
    assert scan(out.path, key="rows").ids is None


def test_all_of_a_pipeline_lies_at_urls(place: str) -> None:
    group = zarr.create_group(f"{place}/tokens.zarr")
    group.create_array("features", data=X, chunks=(64, D))
    tokens = f"{place}/tokens.zarr"
    space = rs.align({"a": tokens, "b": X[:, ::-1].copy()}, landmarks=60)
    aligned = space.transform("a", tokens, out=f"{place}/aligned.zarr")
    expected = space.transform("a", X)
    np.testing.assert_allclose(aligned.read(0, N), expected, atol=1e-6)
    cut = rs.NormalizedCut(3, n_landmarks=100).fit(f"{place}/aligned.zarr", out=f"{place}/cut.zarr")
    held = rs.NormalizedCut(3, n_landmarks=100).fit(expected)
    np.testing.assert_allclose(cut["features"].read(0, N), held["features"], atol=1e-4, rtol=1e-3)
    rgb = rs.colors(cut, out=f"{place}/rgb.zarr")["features"]
    torch.testing.assert_close(scan(f"{place}/rgb.zarr").read(0, N), rgb.read(0, N), atol=0, rtol=0)


def test_feature_stores_are_read_at_urls(place: str, tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 8, 8), torch.nn.Tanh())
    preprocessing = rs.Preprocessing(size=(48, 48))
    model = rs.ModuleModel(network, ["1"], layout="bchw", preprocessing=preprocessing)
    images = np.random.default_rng(0).random((5, 48, 48, 3)).astype(np.float32)
    here = rs.extract(model, images, tmp_path / "store.zarr")
    fsspec.filesystem(place.partition(":")[0]).put(
        str(tmp_path / "store.zarr"), f"{place}/store.zarr", recursive=True
    )
    there = rs.open_features(f"{place}/store.zarr")
    assert there.layers == here.layers
    assert there.ids == here.ids
    rows = scan(f"{place}/store.zarr")
    assert torch.equal(rows.read(0, 200), here[here.layers[0]].read(0, 200))
    with pytest.raises(FileNotFoundError, match="there is no feature store"):
        rs.open_features(f"{place}/none.zarr")


def test_a_store_of_something_else_is_left_alone(place: str) -> None:
    zarr.create_group(f"{place}/other.zarr").create_array("photos", data=X)
    with pytest.raises(FileFormatError, match="something else"):
        rs.Aligner().fit(X[:40]).transform(X, out=f"{place}/other.zarr")
    system, path = fsspec.core.url_to_fs(place)
    system.makedirs(f"{path}/photos.zarr", exist_ok=True)
    system.pipe_file(f"{path}/photos.zarr/a.png", b"a photo")
    with pytest.raises(FileFormatError, match="no Zarr store"):
        rs.Aligner().fit(X[:40]).transform(X, out=f"{place}/photos.zarr")
    assert system.cat_file(f"{path}/photos.zarr/a.png") == b"a photo"
    with pytest.raises(FileFormatError, match="there is no Zarr array"):
        scan(f"{place}/none.zarr")


def test_the_package_that_a_url_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"class": "absent_package.FileSystem", "err": "Install absent_package to access it"}
    monkeypatch.setitem(known_implementations, "far", known)
    with pytest.raises(MissingDependencyError, match="Install absent_package"):
        scan("far://bucket/none.zarr")
    with pytest.raises(MissingDependencyError, match=r"Install absent_package.* s3fs for s3://"):
        rs.Aligner().fit(X[:40]).transform(X, out="far://bucket/out.zarr")
