"""Every source says where it lies, and no output may be, hold or lie in what is read."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import pytest
import torch
import zarr
from safetensors.torch import save_file

import relspace as rs
from relspace.errors import FileFormatError, InvalidInputError
from relspace.features import FeatureSet, scan
from relspace.rows.dask import rows_as_array
from relspace.rows.locations import refuse_inputs, refuse_shared
from relspace.rows.output import check_location
from relspace.rows.source import GeneratedRows

N, D = 60, 6
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


def small_model() -> rs.ModuleModel:
    """A model of images."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 2), torch.nn.Tanh())
    preprocessing = rs.Preprocessing(size=(6, 6))
    return rs.ModuleModel(network, ["0", "1"], layout="bchw", preprocessing=preprocessing)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A feature store of images."""
    images = np.random.default_rng(1).random((12, 6, 6, 3))
    rs.extract(small_model(), images, tmp_path / "f.zarr")
    return tmp_path / "f.zarr"


def files(folder: Path) -> dict[str, bytes]:
    """All that lies in a folder."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in paths}


def test_every_source_says_where_it_lies(tmp_path: Path, store: Path) -> None:
    npy, h5, tensors = (tmp_path / f"a{end}" for end in (".npy", ".h5", ".safetensors"))
    np.save(npy, X)
    save_file({"features": torch.from_numpy(X)}, tensors)
    zarr.save(str(tmp_path / "a.zarr"), X)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = X
    with h5py.File(h5, "w") as file:
        file["features"] = X
        layout = h5py.VirtualLayout(shape=X.shape, dtype=X.dtype)
        layout[...] = h5py.VirtualSource("other.h5", "x", shape=X.shape)
        file.create_virtual_dataset("linked", layout)
    mapped = np.load(npy, mmap_mode="r")
    with h5py.File(h5) as file:
        cases: list[tuple[object, list[Path]]] = [
            (X, []),
            (torch.from_numpy(X), []),
            (GeneratedRows(X.shape, lambda start, stop: X[start:stop]), []),
            (npy, [npy]),
            (mapped, [npy]),
            (np.asarray(mapped)[3:], [npy]),
            (f"{h5}::features", [h5]),
            (f"{h5}::linked", [h5, tmp_path / "other.h5"]),
            (file["features"], [h5]),
            (tensors, [tensors]),
            (tmp_path / "a.zarr", [tmp_path / "a.zarr"]),
            (zarr.open_array(tmp_path / "a.zarr"), [tmp_path / "a.zarr"]),
            (da.from_zarr(str(tmp_path / "a.zarr")), [tmp_path / "a.zarr"]),
            (da.from_array(file["features"], chunks=(20, D)), [h5]),
            (rows_as_array(scan(npy)), [npy]),
            ([npy, tensors], [npy, tensors]),
            (rs.open_features(store)["1"], [store]),
            (rs.open_features(store).pool("mean")["1"], [store]),
            (rs.open_features(store)["0"].select(torch.arange(3)), [store]),
            (FeatureSet.from_arrays({"a": mapped})["a"], [npy]),
        ]
        for source, expected in cases:
            path, _, key = str(source).partition("::") if isinstance(source, str) else ("", "", "")
            rows = scan(path, key=key) if key else scan(source)
            found = {Path(one) for one in rows.locations()}
            assert found == set(expected), source
    zarr.save("memory://places/a.zarr", X)
    assert scan("memory://places/a.zarr").locations() == ("memory://places/a.zarr",)


def test_rows_of_a_space_lie_where_the_features_do(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    sets = {"a": tmp_path / "a.npy", "b": X[:, ::-1].copy()}
    space = rs.align(sets, landmarks=10, memory_budget=1)
    assert tmp_path / "a.npy" in space.rows("a").locations()
    with pytest.raises(InvalidInputError, match=r"a\.npy', which is one of the inputs"):
        rs.NormalizedCut(3, n_landmarks=20).fit(
            space, out={"a": tmp_path / "a.npy", "b": tmp_path / "b.npy"}
        )


@pytest.mark.parametrize(
    ("path", "other", "relation"),
    [
        ("a.npy", "a.npy", "is"),
        ("x/../a.npy", "a.npy", "is"),
        ("link.npy", "a.npy", "is"),
        ("hard.npy", "a.npy", "is"),
        ("folder", "folder/a.npy", "holds"),
        ("folder/a.zarr/b.zarr", "folder/a.zarr", "lies in"),
        ("a.zarr", "a.npy", None),
        ("folder/a", "folder/ab", None),
        ("s3://b/a.zarr", "s3://b/a.zarr/", "is"),
        ("s3://b//a.zarr/c", "s3://b/a.zarr", "lies in"),
        ("s3://b/a", "s3://b/ab", None),
        ("s3://b/a", "gs://b/a", None),
    ],
)
def test_outputs_that_overlap_an_input_or_each_other_are_refused(
    path: str, other: str, relation: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "link.npy").symlink_to("a.npy")
    (tmp_path / "hard.npy").hardlink_to("a.npy")
    if relation is None:
        refuse_inputs(path, [other])
        refuse_shared({"a": path, "b": other})
        return
    with pytest.raises(InvalidInputError, match=f"which {relation} .*one of the inputs: name"):
        refuse_inputs(path, [other])
    with pytest.raises(InvalidInputError, match="give each an output of its own"):
        refuse_shared({"a": path, "b": other})


def test_an_output_in_the_store_that_it_is_made_from_is_refused(store: Path) -> None:
    before = files(store)
    aligner = rs.Aligner().fit(X[:, :5])
    layer = rs.open_features(store)["1"]
    for out in (store, store / "out.zarr", store / "layers" / "x.npy", store.parent / "f.zarr/"):
        with pytest.raises(InvalidInputError, match="one of the inputs"):
            aligner.transform(layer, out=rs.Output(out, overwrite=True))
        with pytest.raises(InvalidInputError, match="one of the inputs"):
            aligner.transform([layer, layer], out=rs.Output(out, overwrite=True))
    assert files(store) == before


def test_the_output_of_one_set_does_not_overwrite_the_tokens_of_another(tmp_path: Path) -> None:
    a, b = tmp_path / "a.npy", tmp_path / "b.npy"
    np.save(a, X)
    np.save(b, X[:, ::-1])
    before = files(tmp_path)
    cut = rs.NormalizedCut(3, n_landmarks=20)
    for out, error in (
        ({"a": b, "b": tmp_path / "c.npy"}, r"out\['a'\] is .*b.npy', which is one of the inputs"),
        ({"a": tmp_path / "c.npy", "b": tmp_path / "c.npy"}, "is that of 'a'"),
        ({"a": tmp_path / "c.zarr", "b": tmp_path / "c.zarr/b.zarr"}, "lies in that of 'a'"),
    ):
        overwriting = {name: rs.Output(path, overwrite=True) for name, path in out.items()}
        with pytest.raises(InvalidInputError, match=error):
            cut.fit({"a": a, "b": b}, out=overwriting)
    outputs = {"a": tmp_path / "c.npy", "b": tmp_path / "d.npy"}
    for checkpoint in (b, tmp_path / "d.npy"):
        with pytest.raises(InvalidInputError, match="checkpoint"):
            cut.fit({"a": a, "b": b}, out=outputs, checkpoint=checkpoint)
    assert files(tmp_path) == before


def test_colours_do_not_overwrite_embeddings(tmp_path: Path) -> None:
    out = {name: tmp_path / f"{name}.npy" for name in "ab"}
    cut = rs.NormalizedCut(3, n_landmarks=20).fit({"a": X, "b": X[:, ::-1].copy()}, out=out)
    np.save(tmp_path / "x.npy", X)
    before = files(tmp_path)
    swapped = {"a": rs.Output(out["b"], overwrite=True), "b": rs.Output(out["a"], overwrite=True)}
    with pytest.raises(InvalidInputError, match="one of the inputs"):
        rs.Coloring().fit(cut, out=swapped)
    with pytest.raises(InvalidInputError, match="one of the inputs"):
        rs.Coloring().fit(cut).transform(out["a"], out=rs.Output(out["a"], overwrite=True))
    with pytest.raises(InvalidInputError, match="one of the inputs"):
        cut.transform("a", tmp_path / "x.npy", out=rs.Output(tmp_path / "x.npy", overwrite=True))
    assert files(tmp_path) == before


def test_outputs_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", X)
    for work in ("relspace.embedding.ncut.joint_graph", "relspace.rows.transform.identify"):
        monkeypatch.setattr(work, lambda *_, **__: pytest.fail("worked"))
    aligner = rs.Aligner().fit(X[:20])
    for out, kind in ((tmp_path / "a.npy", InvalidInputError), ("/proc/x.npy", OSError)):
        with pytest.raises(kind, match=str(out)):
            aligner.transform(tmp_path / "a.npy", out=rs.Output(out, overwrite=True))
        with pytest.raises(kind, match=str(out)):
            rs.NormalizedCut(3).fit(tmp_path / "a.npy", out=rs.Output(out, overwrite=True))


@pytest.mark.parametrize("at", ["folder", "memory"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_foreign_zarr_array_is_refused_by_name(at: str, overwrite: bool, tmp_path: Path) -> None:
    place = str(tmp_path / "a.zarr") if at == "folder" else f"memory://{tmp_path.name}/a.zarr"
    zarr.save(place, X)
    out = rs.Output(place, overwrite=overwrite)
    with pytest.raises(FileFormatError, match=r"a\.zarr is a Zarr array of something else"):
        rs.Aligner().fit(X[:20]).transform(X, out=out)
    with pytest.raises(FileFormatError, match=r"a\.zarr"):
        rs.extract(small_model(), np.zeros((3, 6, 6, 3)), place, overwrite=overwrite)
    np.testing.assert_array_equal(np.asarray(zarr.open_array(place, mode="r")), X)


@pytest.mark.parametrize("content", ["{", "[]", '{"zarr_format": 3, "node_type": "group", "a": 1}'])
def test_a_damaged_zarr_store_is_refused_by_name(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text(content)
    with pytest.raises(FileFormatError, match=r"a\.zarr (can't be read|is a Zarr store of)"):
        check_location(tmp_path / "a.zarr")


def test_a_space_is_not_saved_over_what_it_is_made_from(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"features": torch.from_numpy(X)}, path)
    space = rs.align({"a": path, "b": X[:, ::-1].copy()}, landmarks=10, memory_budget=1)
    before = path.read_bytes()
    with pytest.raises(InvalidInputError, match=r"path is .*which is one of the inputs"):
        space.save(path)
    assert path.read_bytes() == before
