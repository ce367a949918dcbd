"""Limits and defaults of counts and seeds, which import nothing."""

from __future__ import annotations

#: The largest whole number that a count or a seed may be: what 64 bits hold.
LARGEST_WHOLE_NUMBER = 2**63 - 1
#: How many permutations, random halves or splits can be asked for: p-values down to 1e-7.
MOST_RESAMPLES = 10_000_000
#: The default number of permutations; the smallest p-value is then 0.01.
DEFAULT_PERMUTATIONS = 99
#: The default level of tests.
DEFAULT_ALPHA = 0.05
