"""Defaults of alignment: density, normalisation and standardisation, for items and for tokens."""

from __future__ import annotations

from dataclasses import dataclass

#: The default number of landmarks; all items of smaller sets.
DEFAULT_LANDMARKS = 1024


@dataclass(frozen=True)
class Settings:
    """Parameters of an :class:`relspace.Aligner`, which ``space.parameters`` records.

    Attributes
    ----------
    density : float
        Mean affinity between distinct landmarks.
    normalize : str
        The normalisation of tokens.
    standardize : str
        The standardisation of landmark columns.
    """

    density: float
    normalize: str
    standardize: str

    def changed(
        self, density: float | None, normalize: str | None, standardize: str | None
    ) -> Settings:
        """Return a copy with the values that are given (not None)."""
        return Settings(
            self.density if density is None else density,
            self.normalize if normalize is None else normalize,
            self.standardize if standardize is None else standardize,
        )


#: Items: columns are decorrelated, so that one item is set apart from all others.
ITEMS = Settings(density=0.2, normalize="quarter-whiten+unit", standardize="whiten")

#: Tokens on grids: columns are decorrelated halfway, which keeps more of what many tokens share.
TOKENS = Settings(density=0.2, normalize="quarter-whiten+unit", standardize="half-whiten")
