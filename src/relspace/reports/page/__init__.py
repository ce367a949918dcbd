"""Results as plain data, and pages of them that need no network."""

from relspace.reports.page.data import (
    Curve,
    CurveChart,
    KeyNumber,
    LayerTable,
    Picture,
    Quantization,
    ReportData,
    ReportImage,
    ReportLayer,
    ReportModel,
    Scatter,
    Section,
    Table,
    Value,
    value_table,
)
from relspace.reports.page.panel import report_panel
from relspace.reports.page.render import render_report

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
    "render_report",
    "report_panel",
    "value_table",
]
