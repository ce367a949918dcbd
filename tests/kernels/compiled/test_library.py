import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from relspace._core import installation
from relspace.errors import RelspaceWarning
from relspace.kernels.compiled import library, strips


@pytest.mark.skipif(library.LIBRARY is None, reason="switched off, or never compiled")
def test_kernels_of_another_version_are_never_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "INTERFACE", installation.INTERFACE + 1)
    with pytest.warns(RelspaceWarning, match="another version of relspace"):
        assert library._load() is None


def test_kernels_without_a_number_are_of_the_first_interface() -> None:
    assert installation.interface_of(ctypes.CDLL(None)) == 1


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_what_other_compilers_build_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MSVC has no vectors; what is compiled for it is tried with the compiler at hand."""
    sources = [Path(library.__file__).with_name(name) for name in ("fused.c", "strips.c")]
    built = tmp_path / "portable.so"
    flags = ["-std=c11", "-O2", "-shared", "-fPIC", "-DRELSPACE_PORTABLE"]
    subprocess.run(["cc", *flags, *sources, "-lm", "-o", built], check=True)
    portable = library.Library(ctypes.CDLL(str(built)))
    assert portable.level == 0
    portable.team = None
    X = torch.randn(70, 37, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(strips, "LIBRARY", portable)
    found = strips.affinities_in_strips(X, None, 0.1)
    assert found is not None
    affinities, root = found
    assert root is not None
    sigma_squared = torch.tensor(root.log_variance).exp()
    expected = torch.exp(-(torch.cdist(X.double(), X.double()) ** 2) / (2 * sigma_squared))
    torch.testing.assert_close(affinities.double(), expected, atol=2e-6, rtol=0)
