"""Feature sets on disk: written by extraction, opened lazily."""
