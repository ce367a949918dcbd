"""Measures that are functions of sums over items, so that features may be streamed."""
