"""Portraits: two networks that see parts of faces, aligned, with the truth at hand to check it."""
