"""Case studies that run offline on real data shipped with the package or a dependency of it."""
