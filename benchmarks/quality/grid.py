"""The settings of this library's own measure and matching, side by side on the same tasks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

from quality.matchers import Matcher, affinities
from relspace import measures
from relspace.measures import Measure
