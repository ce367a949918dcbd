"""The summary: plain data that says what is wrong with it, and goes into JSON and back."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
from typing import Any

import numpy as np
import pytest

from relspace.errors import InvalidInputError
from relspace.reports.page import (
    Curve,
    CurveChart,
    LayerTable,
    ReportData,
    ReportImage,
    Scatter,
    Value,
    value_table,
)
from relspace.reports.page.packing import pack, packed_figures


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_packed_arrays_come_back(dtype: Any) -> None:
    array = np.arange(-60, 60).astype(dtype).reshape(4, 5, 6)
    packed = json.loads(json.dumps(pack(array)))
    content = gzip.decompress(base64.b64decode(packed["gzip"]))
    found = np.frombuffer(content, packed["type"]).reshape(packed["shape"])
    np.testing.assert_array_equal(found, array)
    assert pack(array) == pack(array.copy())


def test_figures_are_plain_json_whatever_the_numbers(report_data: ReportData) -> None:
    figures = json.loads(json.dumps(packed_figures(report_data), allow_nan=False))
    assert figures["charts"][0]["curves"][0]["values"] == [0.2, None, 0.9]
    assert figures["models"][0]["layers"][0]["vectors"]["shape"][:3] == [5, 6, 6]
    assert list(figures["models"][0]["layers"][0]["colors"]) == ["joint", "per model", "before"]


def test_tokens_are_counted_over_all_layers(report_data: ReportData) -> None:
    assert report_data.n_tokens == 3 * 5 * (36 + 16)


def test_value_tables_leave_out_what_no_value_has() -> None:
    table = value_table("t", [Value("a", 0.5, interval=(0.4, 0.6)), Value("b", 0.1)])
    assert table.columns == ["", "value", "from", "to"]
    assert table.rows == [["a", 0.5, 0.4, 0.6], ["b", 0.1, "", ""]]


def test_models_need_images(report_data: ReportData) -> None:
    with pytest.raises(InvalidInputError, match="without images"):
        dataclasses.replace(report_data, images=[])


def test_pixels_must_be_bytes_of_three_channels() -> None:
    with pytest.raises(InvalidInputError, match="pixels of a: found 4 x 4 of float64"):
        ReportData(title="t", images=[ReportImage("a", np.zeros((4, 4)))])


def test_shapes_that_do_not_fit_are_named(report_data: ReportData) -> None:
    layer = report_data.models[0].layers[0]
    for change, message in [
        ({"vectors": layer.vectors[:, :, :, :3]}, "vectors of fine <net> early"),
        ({"vectors": layer.vectors.astype(np.int16)}, "of int8"),
        ({"colors": {"joint": layer.colors["joint"][:2]}}, "colours 'joint'"),
        ({"segments": {2: layer.segments[2][0]}}, "segments at 2"),
        ({"boxes": np.zeros((2, 4))}, "boxes of"),
    ]:
        model = dataclasses.replace(
            report_data.models[0], layers=[dataclasses.replace(layer, **change)]
        )
        with pytest.raises(InvalidInputError, match=message):
            dataclasses.replace(report_data, models=[model])


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"layer_tables": [LayerTable("m", "a", "b", ["x"], ["y"], np.zeros((2, 1)))]}, "of m"),
        ({"charts": [CurveChart("c", "y", ["one"], [Curve("line", [1, 2])])]}, "curve line"),
        ({"scatters": [Scatter("s", ["i"], {"a": np.zeros((2, 2))}, {})]}, "points of a"),
    ],
)
def test_figures_that_do_not_fit_are_named(part: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        ReportData(title="t", **part)
