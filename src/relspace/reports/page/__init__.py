"""Results as plain data, and pages of them that need no network."""

from relspace.reports.page.data import (
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
from relspace.reports.page.panel import report_panel
from relspace.reports.page.quantize import quantize_rows
from relspace.reports.page.render import render_report
from relspace.reports.page.sections import KeyNumber, Picture, Section, Table

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
