"""Results as tables: one base for all that give a pandas frame or a CSV file."""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relspace._core.arguments import check_path
from relspace._core.files import write_whole
from relspace.errors import MissingDependencyError


class TabularResult(ABC):
    """Base of results whose numbers are rows of a table."""

    @property
    @abstractmethod
    def _columns(self) -> Mapping[str, Sequence[object]]:
        """The columns of the table by name, all of one length; None for no value."""

    def to_dataframe(self) -> Any:
        """The numbers as a table, one row for each of what was compared.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        MissingDependencyError
            If pandas isn't installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingDependencyError(
                "to_dataframe needs pandas, which is not installed: pip install pandas."
            ) from error
        frame = pd.DataFrame(self._columns)
        # Numbers that were not asked for are missing numbers, as in a file that is read.
        return frame.astype({name: float for name in frame if frame[name].isna().all()})

    def to_csv(self, path: str | Path) -> None:
        """Write the table of :meth:`to_dataframe` as CSV, without pandas."""
        check_path(path)
        columns = self._columns
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))
        write_whole(Path(path), text.getvalue().encode())
