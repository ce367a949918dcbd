"""Results drawn as figures and written as pages that need no network."""

from relspace.pages.html import KeyNumber, Picture, Section, Table
from relspace.pages.page import render_report
from relspace.pages.quantize import quantize_rows
from relspace.pages.summary import (
    Curve,
    CurveChart,
    LayerTable,
    Quantization,
    ReportData,
    ReportImage,
    ReportLayer,
    ReportModel,
    Scatter,
    Value,
    value_table,
)

__all__ = [
    "Curve",
    "CurveChart",
    "KeyNumber",
    "LayerTable",
    "Picture",
    "Quantization",
    "ReportData",
    "ReportImage",
    "ReportLayer",
    "ReportModel",
    "Scatter",
    "Section",
    "Table",
    "Value",
    "quantize_rows",
    "render_report",
    "value_table",
]
