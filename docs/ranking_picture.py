"""Draws the picture of docs/ranking.md: three simulated stages of a network beside six subjects.

python docs/ranking_picture.py docs/images/ranking.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import relspace as rs
from relspace.pictures.theme import axes_bytes


def main() -> None:
    """Simulate, rank, print and draw."""
    rng = np.random.default_rng(1)
    shape, color, place = (rng.normal(size=(120, 4)) for _ in range(3))

    def mixed(parts: list[np.ndarray], width: int) -> np.ndarray:
        whole = np.concatenate(parts, axis=1)
        mixture: np.ndarray = whole @ rng.normal(size=(whole.shape[1], width))
        return mixture

    subjects = {
        f"subject {k}": mixed([shape, rng.uniform(0.4, 0.8) * color], 30)
        + 1.5 * rng.normal(size=(120, 30))
        for k in range(1, 7)
    }
    models = {
        "early": mixed([shape, 2 * place], 50),
        "middle": mixed([shape], 50),
        "late": mixed([shape, 0.5 * color], 50),
        "unrelated": rng.normal(size=(120, 50)),
    }
    found = rs.compare_to(subjects, models, measure="cka")
    print(found)
    Path(sys.argv[1]).write_bytes(axes_bytes(found.plot()))


if __name__ == "__main__":
    main()
