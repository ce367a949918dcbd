"""``relspace rank``: rival models and references in files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from relspace.cli import commands

RNG = np.random.default_rng(0)
TRUTH = RNG.normal(size=(40, 5))
FEW = ["--bootstraps", "20", "--permutations", "9"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, noise in {"s1": 1.0, "s2": 1.0, "near": 0.3, "far": 3.0}.items():
        X = TRUTH + noise * RNG.normal(size=TRUTH.shape)
        np.save(tmp_path / f"{name}.npy", X)
        np.save(tmp_path / f"{name}_d.npy", np.linalg.norm(X[:, None] - X, axis=-1))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> str:
    done = CliRunner().invoke(commands, ["rank", *arguments, *FEW])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_models_and_references_keep_their_names(folder: Path) -> None:
    said = run("s1.npy", "s2.npy", "--model", "far.npy", "--model", "best=near.npy", "--json")
    found = json.loads(said)
    assert found["references"] == ["s1", "s2"]
    assert [row["model"] for row in found["models"]] == ["best", "far"]
    assert found["files"]["best"]["path"] == "near.npy"


def test_figure_and_table_are_written(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    models = ["s1.npy", "--model", "far.npy", "--model", "near.npy", "--measure", "cka"]
    assert "Written to r.png" in run(*models, "-o", "r.png")
    assert (folder / "r.png").read_bytes().startswith(b"\x89PNG")
    run(*models, "-o", "r.csv")
    assert (folder / "r.csv").read_text().splitlines()[1].startswith("near,")


def test_matrices_of_dissimilarities_are_ranked(folder: Path) -> None:
    models = ["--model", "near_d.npy", "--model", "far_d.npy"]
    said = run("s1_d.npy", "s2_d.npy", *models, "--dissimilarities", "--measure", "rsa")
    assert said.splitlines()[2].startswith("near_d")
    assert "noise ceiling" in said
