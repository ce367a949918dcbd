"""Tiny models and images, as the tests of features have them."""

from tests.features.conftest import photos, saved

__all__ = ["photos", "saved"]
