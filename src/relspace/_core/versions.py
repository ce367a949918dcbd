"""The version of the library that runs, whether or not it is an installed package."""

__version__ = "0.1.0"
