"""How good are the measures and ways of matching? ``make quality``, or ``run.py --task layers``."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[up]) for up in (1, 2)]
    from quality.command import main

    main()
