"""What every layer stands on: checked arguments, memory, threads, devices and files."""
