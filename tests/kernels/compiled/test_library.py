import ctypes

import pytest

from relspace.errors import RelspaceWarning
from relspace.kernels.compiled import library


@pytest.mark.skipif(library.LIBRARY is None, reason="switched off, or never compiled")
def test_kernels_of_another_version_are_never_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "INTERFACE", library.INTERFACE + 1)
    with pytest.warns(RelspaceWarning, match="another version of relspace"):
        assert library._load() is None


def test_kernels_without_a_number_are_of_the_first_interface() -> None:
    assert library.interface_of(ctypes.CDLL(None)) == 1
