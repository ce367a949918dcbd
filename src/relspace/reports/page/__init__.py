"""Results as plain data, and pages of them that need no network."""

from relspace.pages.page import render_report
from relspace.pages.panel import report_panel
from relspace.pages.quantize import quantize_rows
from relspace.pages.sections import KeyNumber, Picture, Section, Table
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
    "report_panel",
    "value_table",
]
