"""Runs block functions elsewhere: on Dask, lazily or on a cluster of workers."""
