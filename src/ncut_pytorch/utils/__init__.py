"""Affinities and bandwidths under the names that existing code imports."""
