"""Common spaces and feature sets -> what their interactive reports hold."""

from relspace.reporting.feature_sets import feature_sets_report
from relspace.reporting.spaces import space_report
from relspace.reporting.writing import report

__all__ = ["feature_sets_report", "report", "space_report"]
