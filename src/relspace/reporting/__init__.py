"""Common spaces and feature sets -> what their interactive reports hold."""

from relspace.reporting.spaces import space_report, write_report

__all__ = ["space_report", "write_report"]
