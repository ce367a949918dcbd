"""Studies that relspace is shown on: run by a command from the repository root, and tested."""
