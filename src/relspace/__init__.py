"""relspace: one common space in which features of different models can be compared."""

__version__ = "0.1.0"

__all__ = ["__version__"]
