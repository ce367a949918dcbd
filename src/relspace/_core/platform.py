"""What operating systems allow with open files, which locks and atomic writes depend on."""

import os

#: Whether folders can be opened, and then locked. Windows opens files only.
OPENS_FOLDERS = os.name != "nt"
#: Whether an open file can be renamed, and read by others while it is locked. Not on Windows.
RENAMES_OPEN_FILES = os.name != "nt"
