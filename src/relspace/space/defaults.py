"""What is done to features on their way into a space, where nothing else is asked for."""

from __future__ import annotations

from dataclasses import dataclass

#: Sets of up to this many items are described by all of them, larger ones by as many at random.
DEFAULT_LANDMARKS = 1024


@dataclass(frozen=True)
class Settings:
    """What an :class:`relspace.Aligner` is given; ``space.parameters`` says what it was.

    Attributes
    ----------
    density : float
        Mean affinity between distinct landmarks.
    normalize : str
        What is done to tokens.
    standardize : str
        What is done to landmark columns.
    """

    density: float
    normalize: str
    standardize: str

    def changed(
        self, density: float | None, normalize: str | None, standardize: str | None
    ) -> Settings:
        """The same but for what is given."""
        return Settings(
            self.density if density is None else density,
            self.normalize if normalize is None else normalize,
            self.standardize if standardize is None else standardize,
        )


#: One item is set apart from all others. The density is higher than for an affinity matrix that is
#: compared as a whole, because decorrelated columns lose nothing to their overlap.
ITEMS = Settings(density=0.2, normalize="half-whiten+unit", standardize="whiten")

#: Tokens on grids: what most tokens differ by is kept, and columns are decorrelated halfway where
#: rows are compared.
TOKENS = Settings(density=0.05, normalize="center+unit", standardize="half-whiten")
