"""Joint pictures: the normalized cut of all sets at once, its segments and its colours."""

from relspace.embedding.color import Coloring, colors
from relspace.embedding.ncut import NormalizedCut
from relspace.embedding.segments import kway

__all__ = ["Coloring", "NormalizedCut", "colors", "kway"]
