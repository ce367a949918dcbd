"""Compiled twins of loops that torch would take in several passes."""
