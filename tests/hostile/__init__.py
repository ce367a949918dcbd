"""Hostile input: every public function and command, refused by name or answered rightly."""
