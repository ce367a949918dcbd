"""Common spaces, feature sets and comparisons -> plain summaries -> interactive pages."""

from relspace.reports.feature_sets import FeatureSetsSummary, summarize_feature_sets
from relspace.reports.report import Report, report
from relspace.reports.space import SpaceSummary, summarize_space

__all__ = [
    "FeatureSetsSummary",
    "Report",
    "SpaceSummary",
    "report",
    "summarize_feature_sets",
    "summarize_space",
]
