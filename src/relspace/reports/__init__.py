"""Common spaces and feature sets -> what their interactive reports hold."""

from relspace.reports.feature_sets import feature_sets_report
from relspace.reports.report import report
from relspace.reports.space import space_report

__all__ = ["feature_sets_report", "report", "space_report"]
