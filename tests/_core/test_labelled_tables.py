"""Labels of rows are ids, wherever tables with labels go in; names of columns are kept in order."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import xarray as xr
from click.testing import CliRunner

import relspace as rs
from relspace._core.items import own_ids
from relspace._core.labelled_tables import without_labels
from relspace._core.matrices import as_features
from relspace.cli import commands
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError, NonFiniteError
from relspace.features import read, scan

N = 30
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 6))
IDS = tuple(f"photo {i:02}" for i in RNG.permutation(N))
NAMES = [f"f{i}" for i in range(6)]
ORDER = RNG.permutation(N)


class Annotated:
    """Stands in for AnnData: what it holds, by the attributes that AnnData has."""

    X: Any = None
    obs_names: Any = None
    var_names: Any = None

    def __init__(self, values: np.ndarray, ids: Any) -> None:
        self.X, self.obs_names, self.var_names = values, pd.Index(ids), pd.Index(NAMES)
        self.shape = values.shape


def with_labels(kind: str, values: np.ndarray = X, ids: Any = IDS) -> Any:
    """A table of some kind whose rows are called by ids."""
    match kind:
        case "pandas":
            return pd.DataFrame(values, index=list(ids), columns=NAMES)
        case "pandas column":
            return pd.DataFrame(values, columns=NAMES).assign(ID=list(ids))
        case "xarray":
            coords = {"item": list(ids), "feature": NAMES}
            return xr.DataArray(values, dims=("item", "feature"), coords=coords)
        case "Arrow":
            return pa.table({"id": list(ids)} | dict(zip(NAMES, values.T, strict=True)))
        case "AnnData":
            return Annotated(values, ids)
        case "polars":
            polars = pytest.importorskip("polars")
            return polars.DataFrame({"id": list(ids)} | dict(zip(NAMES, values.T, strict=True)))
    raise AssertionError(kind)


KINDS = ("pandas", "pandas column", "xarray", "Arrow", "AnnData", "polars")


@pytest.mark.parametrize("kind", KINDS)
class TestLabels:
    def test_rows_are_matched_by_them_and_not_by_position(self, kind: str) -> None:
        table = with_labels(kind)
        shuffled = with_labels(kind, X[ORDER], [IDS[i] for i in ORDER])
        compared = rs.compare(table, shuffled, measure="cka")
        assert (round(compared.value, 6), compared.matched_by) == (1.0, "ids")
        space = rs.align({"a": table, "b": shuffled})
        assert space.ids == IDS
        assert space.match("a", "b").accuracy == 1.0
        layers = rs.compare_layers({"one": table}, {"one": shuffled}, measure="cka")
        assert layers.values[0, 0] == pytest.approx(1.0)
        assert layers.matched_by == "ids"
        models = rs.compare_models({"m": {"one": table}, "n": {"one": shuffled}}, measure="cka")
        assert models.values[0, 1] == pytest.approx(1.0)
        fs = rs.FeatureSet.from_arrays({"one": table})
        assert fs.ids == IDS
        assert rs.compare(fs["one"], shuffled, measure="cka").value == pytest.approx(1.0)

    def test_some_with_and_some_without_are_matched_by_position_only_when_told(
        self, kind: str
    ) -> None:
        table = with_labels(kind)
        with pytest.raises(ItemMismatchError, match=r"'Y' has no ids.*ids='position'"):
            rs.compare(table, X)
        with pytest.raises(ItemMismatchError, match=r"'b' has no ids.*ids='position'"):
            rs.align({"a": table, "b": X})
        with pytest.raises(ItemMismatchError, match=r"no ids.*ids='position'"):
            rs.compare_layers({"one": table}, {"one": X})
        with pytest.raises(ItemMismatchError, match=r"no ids.*ids='position'"):
            rs.compare_models({"m": {"one": table}, "n": {"one": X}})
        with pytest.raises(ItemMismatchError, match=r"layers 'two' of arrays have other ids"):
            rs.FeatureSet.from_arrays({"one": table, "two": X})
        told = rs.compare(table, X, ids="position", measure="cka")
        assert (round(told.value, 6), told.matched_by) == (1.0, "position")
        assert rs.align({"a": table, "b": X}, ids="position").match("a", "b").accuracy == 1.0

    def test_they_are_kept_by_sources_of_rows(self, kind: str) -> None:
        rows = scan(with_labels(kind))
        assert (rows.ids, rows.shape) == (IDS, X.shape)
        assert rows.read(3, 5).numpy() == pytest.approx(X[3:5])
        halves = [with_labels(kind, X[part], IDS[part]) for part in (slice(20), slice(20, N))]
        shards = scan(halves)
        assert (shards.ids, shards.shape) == (IDS, X.shape)
        compared = rs.compare(halves, with_labels(kind, X[ORDER], [IDS[i] for i in ORDER]))
        assert compared.matched_by == "ids"

    def test_labels_that_occur_twice_are_refused(self, kind: str) -> None:
        twice = with_labels(kind, ids=[IDS[0], *IDS[:-1]])
        with pytest.raises(ItemMismatchError, match="1 item more than once"):
            rs.compare(twice, twice)

    def test_a_measure_refuses_rows_of_other_labels(self, kind: str) -> None:
        cka = rs.measures.get("cka")
        shuffled = with_labels(kind, X[ORDER], [IDS[i] for i in ORDER])
        assert cka(with_labels(kind), with_labels(kind)) == pytest.approx(1.0)
        with pytest.raises(ItemMismatchError, match=r"use relspace\.compare"):
            cka(with_labels(kind), shuffled)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(X),
        pd.DataFrame(X, index=np.arange(N)),
        xr.DataArray(X, dims=("item", "feature")),
        Annotated(X, [str(i) for i in range(N)]),
        pa.table({name: X[:, i] for i, name in enumerate(NAMES)}),
    ],
)
def test_row_numbers_are_no_ids(frame: Any) -> None:
    assert own_ids(frame, "X") is None
    assert rs.compare(frame, X, measure="cka").matched_by == "position"


def test_parts_of_a_counted_frame_are_not_labelled() -> None:
    frame = pd.DataFrame(X)
    assert scan([frame.iloc[:20], frame.iloc[20:]]).ids is None
    again = [frame.iloc[:20], frame.iloc[20:].reset_index(drop=True)]
    assert scan(again).ids is None
    assert own_ids(frame.iloc[::-1], "X") == tuple(range(N - 1, -1, -1))
    with pytest.raises(ItemMismatchError, match="'X' has no ids while 'Y' has some"):
        rs.compare(frame, frame.iloc[::-1])


def shuffled_and_not(**coords: Any) -> tuple[xr.DataArray, xr.DataArray]:
    """Two arrays of the same items in two orders, with coordinates along the items."""
    table = xr.DataArray(
        X, dims=("item", "feature"), coords={name: ("item", one) for name, one in coords.items()}
    )
    return table, table.isel(item=ORDER)


NUMBERS = [int(one) for one in RNG.permutation(1000)[:N]]
CATEGORIES = ["cat", "dog", "car"] * (N // 3)


@pytest.mark.parametrize("called", ["id", "IDs", "stimulus_id", "image", "images", "item_name"])
@pytest.mark.parametrize("labels", [list(IDS), NUMBERS], ids=["text", "numbers"])
def test_coordinates_beside_the_dimension_hold_ids(called: str, labels: list[Any]) -> None:
    table, shuffled = shuffled_and_not(
        **{called: labels}, onset=RNG.random(N), category=CATEGORIES, run=[1] * N
    )
    assert own_ids(table, "X") == tuple(labels)
    compared = rs.compare(table, shuffled, measure="cka")
    assert (round(compared.value, 6), compared.matched_by) == (1.0, "ids")


def test_a_dimension_coordinate_comes_first_unless_it_counts() -> None:
    table, _ = shuffled_and_not(stimulus_id=NUMBERS)
    assert own_ids(table.assign_coords(item=list(IDS)), "X") == IDS
    assert own_ids(table.assign_coords(item=np.arange(N)), "X") == tuple(NUMBERS)


def test_the_only_text_that_tells_items_apart_is_taken_for_ids() -> None:
    table, _ = shuffled_and_not(caption=list(IDS), onset=RNG.random(N), order=NUMBERS)
    assert own_ids(table, "X") == IDS


@pytest.mark.parametrize(
    "names", [("image_id", "stimulus_id"), ("id", "name"), ("caption", "transcript")]
)
def test_several_coordinates_that_could_be_ids_are_refused(names: tuple[str, str]) -> None:
    table, shuffled = shuffled_and_not(
        **{names[0]: list(IDS), names[1]: [f"{one}." for one in IDS]}
    )
    with pytest.raises(InvalidInputError, match=rf"'{names[0]}', '{names[1]}'.*give ids.*position"):
        rs.compare(table, shuffled)
    told = rs.compare(table, shuffled, ids={"X": list(IDS), "Y": [IDS[i] for i in ORDER]})
    assert told.matched_by == "ids"


def test_coordinates_that_tell_no_items_apart_are_no_ids() -> None:
    table, shuffled = shuffled_and_not(image_id=CATEGORIES, onset=RNG.random(N), run=[1] * N)
    assert own_ids(table, "X") is None
    assert rs.compare(table, shuffled, measure="cka").matched_by == "position"


def test_a_level_of_an_index_holds_ids() -> None:
    levels = pd.MultiIndex.from_arrays([CATEGORIES, IDS], names=["category", "stimulus_id"])
    frame = pd.DataFrame(X, index=levels)
    assert own_ids(frame, "X") == IDS
    assert rs.compare(frame, frame.iloc[ORDER], measure="cka").value == pytest.approx(1.0)
    stacked = xr.DataArray(
        X,
        dims=("presentation", "feature"),
        coords=xr.Coordinates.from_pandas_multiindex(levels, "presentation"),
    )
    assert own_ids(stacked, "X") == IDS


def test_observations_of_anndata_that_only_count_may_be_named_beside() -> None:
    data = Annotated(X, [str(i) for i in range(N)])
    type(data).obs = pd.DataFrame({"cell_id": IDS, "batch": [1] * N})
    try:
        assert own_ids(data, "X") == IDS
    finally:
        del Annotated.obs


def test_an_index_of_levels_is_refused_with_what_to_do() -> None:
    index = pd.MultiIndex.from_product([["a", "b"], range(N // 2)])
    frame = pd.DataFrame(X, index=index)
    with pytest.raises(InvalidInputError, match=r"index of 2 levels.*set_axis.*ids='position'"):
        rs.compare(frame, frame)
    assert rs.compare(frame, frame, ids="position", measure="cka").value == pytest.approx(1.0)
    joined = frame.set_axis(["/".join(map(str, one)) for one in frame.index])
    assert rs.compare(joined, joined.iloc[::-1], measure="cka").value == pytest.approx(1.0)


def test_labels_that_are_no_ids_are_refused_with_what_to_do() -> None:
    frame = pd.DataFrame(X, index=np.linspace(0, 1, N))
    with pytest.raises(InvalidTypeError, match=r"of type float.*ids='position'"):
        rs.align({"a": frame, "b": frame})
    dates = pd.DataFrame(X, index=pd.date_range("2026-01-01", periods=N))
    with pytest.raises(InvalidTypeError, match="of type Timestamp"):
        rs.compare(dates, dates)
    both = with_labels("pandas").assign(id=range(N))
    with pytest.raises(InvalidInputError, match="in its index and in its column 'id'"):
        rs.compare(both, both)
    with pytest.raises(InvalidInputError, match="2 columns that could hold the ids, 'id', 'IDS'"):
        own_ids(pd.DataFrame(X).assign(id=1, IDS=2), "X")


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (["a", "b", "c"], "str"),
        ([True, False, True], "bool"),
        (pd.Categorical(["a", "b", "a"]), "category"),
        (pd.array([1, 2, 3], dtype="Int64").astype(object), "object"),
        (pd.date_range("2026-01-01", periods=3), "datetime64"),
    ],
)
def test_a_column_without_numbers_is_refused_by_its_name(column: Any, kind: str) -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0], "label": column})
    with pytest.raises(InvalidTypeError, match=rf"column 'label' of X .* type {kind}"):
        without_labels(frame, "X")
    with pytest.raises(InvalidTypeError, match="'label'"):
        without_labels(pa.Table.from_pandas(frame.astype({"label": str})), "X")


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"x": [1, 2, 3], "y": pd.array([1, None, 3], dtype="Int64")}),
        pd.DataFrame({"x": [1, 2, 3], "y": [1, np.nan, 3]}),
        pd.DataFrame({"x": [1, 2, 3], "y": pd.array([1.5, None, 3], dtype="Float32")}),
        pd.DataFrame({"x": [1, 2, 3], "y": pd.array([1, None, 3], dtype="int64[pyarrow]")}),
        pa.table({"x": [1, 2, 3], "y": [1, None, 3]}),
        pa.table({"x": [1, 2, 3], "y": [1.0, float("nan"), 3]}),
    ],
)
def test_a_value_that_is_missing_is_refused_by_row_and_column(table: Any) -> None:
    with pytest.raises(NonFiniteError, match=r"1 .* in 1 of 3 rows, .* \(1, ('y'|1)\)"):
        as_features(table, "X")


INDICES = {
    "text": (pd.Index(IDS), IDS),
    "text with a name": (pd.Index(IDS, name="photo"), IDS),
    "numbers": (pd.Index(np.arange(N) * 3), tuple(range(0, 3 * N, 3))),
    "numbers with a name": (pd.Index(np.arange(N)[::-1], name="frame"), tuple(range(N))[::-1]),
    "row numbers": (pd.RangeIndex(N), None),
    "row numbers in a column": (pd.Index(np.arange(N), name="frame"), None),
    "levels": (pd.MultiIndex.from_arrays([IDS, np.zeros(N, int)], names=["photo", "day"]), IDS),
}


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("kind", ["table", ".parquet", ".feather"])
def test_the_index_of_a_frame_is_no_feature_of_the_arrow_table_made_of_it(
    kind: str, index: str, tmp_path: Path
) -> None:
    labels, ids = INDICES[index]
    table: Any = pa.Table.from_pandas(pd.DataFrame(X, index=labels, columns=NAMES))
    if kind == "table":
        assert own_ids(table, "X") == ids
        assert np.array_equal(as_features(table, "X").tensor.numpy(), X)
        return
    path = tmp_path / f"a{kind}"
    if kind == ".parquet":
        pq.write_table(table, path)
    else:
        feather.write_feather(table, path)
    if index == "levels":
        with pytest.raises(InvalidInputError, match=r"2 columns .*, 'photo', 'day'"):
            read(path)
    found = read(path, id_column="photo" if index == "levels" else None)
    assert found.ids == ids
    assert np.array_equal(found.features, X)
    assert np.array_equal(scan(path, id_column="photo" if index == "levels" else None), X)


def test_an_index_beside_a_column_of_ids_is_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame(X, index=pd.Index(IDS), columns=NAMES).assign(id=range(N))
    table = pa.Table.from_pandas(frame)
    with pytest.raises(InvalidInputError, match="labels in its index and in its column 'id'"):
        own_ids(table, "X")
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InvalidInputError, match="'id', '__index_level_0__': name one"):
        read(tmp_path / "a.parquet")


def test_types_of_pandas_own_hold_numbers() -> None:
    frame = pd.DataFrame(
        {
            "a": pd.array([1, 2, 3], dtype="Int8"),
            "b": pd.array([1.5, 2.5, 3.5], dtype="Float32"),
            "c": pd.array([1, 2, 4], dtype="int64[pyarrow]"),
            "d": pd.arrays.SparseArray([0.0, 1.0, 0.0]),
        }
    )
    values = without_labels(frame, "X")
    assert isinstance(values, np.ndarray)
    assert values.tolist() == [[1, 1.5, 1, 0], [2, 2.5, 2, 1], [3, 3.5, 4, 0]]
    assert values.dtype == np.float64


def test_sparse_and_lazy_tables_and_several_arrays_are_refused() -> None:
    sparse = Annotated(X, IDS)
    sparse.X = SimpleNamespace(shape=X.shape, toarray=lambda: X)
    with pytest.raises(InvalidTypeError, match="sparse"):
        without_labels(sparse, "X")
    with pytest.raises(InvalidTypeError, match="Dataset of several arrays"):
        rs.compare(xr.Dataset({"a": (("i", "j"), X)}), X)


class TestFeatureNames:
    """Columns are matched by nothing but their order, so that another order is refused."""

    def test_features_in_another_order_are_refused(self, tmp_path: Path) -> None:
        frame = with_labels("pandas")
        other = frame[NAMES[::-1]]
        aligner = rs.Aligner().fit(frame)
        assert aligner.feature_names_in_ == tuple(NAMES)
        np.testing.assert_allclose(aligner.transform(frame), aligner.transform(X), atol=1e-6)
        said = "the same features in another order: column 0 is 'f5' and was 'f0'"
        with pytest.raises(InvalidInputError, match=said):
            aligner.transform(other)
        with pytest.raises(InvalidInputError, match=said):
            aligner.transform(other, out=tmp_path / "out.zarr")
        with pytest.raises(
            InvalidInputError, match="1 feature missing: 'f0'; 1 feature new: 'new'"
        ):
            aligner.transform(frame.rename(columns={"f0": "new"}))

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_saved_space_knows_them(self, tmp_path: Path, kind: str) -> None:
        space = rs.align({"a": with_labels(kind), "b": X}, ids="position")
        again = rs.load_space(space.save(tmp_path / "space.safetensors"))
        table = pd.DataFrame(X, columns=NAMES)
        for one in (space, again):
            np.testing.assert_allclose(one.transform("a", table), one.transform("a", X), atol=1e-5)
            with pytest.raises(InvalidInputError, match="in another order"):
                one.transform("a", table[NAMES[::-1]])
            assert one.transform("b", table[NAMES[::-1]]).shape == (N, N)

    @pytest.mark.parametrize("suffix", [".csv", ".parquet"])
    def test_those_of_files_count_too(self, tmp_path: Path, suffix: str) -> None:
        table = pd.DataFrame(X, columns=NAMES)
        paths = [tmp_path / f"{name}{suffix}" for name in ("first", "other")]
        for frame, path in zip((table, table[NAMES[::-1]]), paths, strict=True):
            if suffix == ".csv":
                frame.to_csv(path, index=False)
            else:
                frame.to_parquet(path, index=False)
        space = rs.align({"a": paths[0], "b": X})
        with pytest.raises(InvalidInputError, match="in another order"):
            space.transform("a", paths[1])
        with pytest.raises(InvalidInputError, match="shard 1 has the same features in another"):
            scan(paths)
        saved = str(tmp_path / "space.safetensors")
        arguments = ["align", f"a={paths[0]}", f"b={paths[1]}", "-o", saved]
        assert CliRunner().invoke(commands, arguments).exit_code == 0
        out = str(tmp_path / "out.npy")
        result = CliRunner().invoke(commands, ["transform", saved, "a", str(paths[1]), "-o", out])
        assert result.exit_code == 2
        assert "in another order" in result.output

    def test_parts_in_another_order_are_refused(self) -> None:
        frame = pd.DataFrame(X, columns=NAMES)
        with pytest.raises(InvalidInputError, match="shard 1 has the same features in another"):
            scan([frame, frame[NAMES[::-1]]])

    def test_numbers_of_columns_are_no_names(self) -> None:
        aligner = rs.Aligner().fit(pd.DataFrame(X))
        assert aligner.feature_names_in_ is None
        assert aligner.transform(pd.DataFrame(X, columns=NAMES)).shape == (N, N)
