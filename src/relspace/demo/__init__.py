"""A case study that runs offline, on real data shipped with a dependency of the package."""
