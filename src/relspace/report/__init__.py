"""Results drawn as figures and written as pages that need no network."""
