"""The common space: sets of any width described by the same landmarks."""
