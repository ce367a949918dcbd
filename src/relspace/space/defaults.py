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


#: Items: columns are decorrelated, so that one item is set apart from all others.
ITEMS = Settings(density=0.2, normalize="quarter-whiten+unit", standardize="whiten")

#: Tokens on grids: columns are decorrelated halfway, which keeps more of what many tokens share.
TOKENS = Settings(density=0.2, normalize="quarter-whiten+unit", standardize="half-whiten")
