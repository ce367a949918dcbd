"""The commands that compare: tables, JSON, pages and figures, and one line for every error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.numpy import save_file
from scipy.io import savemat
from scipy.spatial.distance import pdist, squareform

import relspace as rs
from relspace.cli import commands

N_ITEMS = 40
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in a folder with layers of two related models and an unrelated one."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    items = rng.normal(size=(N_ITEMS, 4))
    ids = [f"photo {i}" for i in range(N_ITEMS)]
    vit = {f"layer_{i}": items @ rng.normal(size=(4, 12)) for i in range(1, 4)}
    cnn = {f"block_{i}": np.tanh(items @ rng.normal(size=(4, 20))) for i in range(1, 3)}
    noise = {"layer_1": rng.normal(size=(N_ITEMS, 7))}
    for name, layers in {"vit": vit, "cnn": cnn, "noise": noise}.items():
        np.savez(f"{name}.npz", **layers)
        np.save(f"{name}.npy", layers[next(iter(layers))])
    order = rng.permutation(N_ITEMS)
    np.savez("vit_ids.npz", **vit, ids=ids)
    shuffled = {name: one[order] for name, one in cnn.items()}
    np.savez("cnn_ids.npz", **shuffled, ids=[ids[i] for i in order])
    Path("groups.txt").write_text("\n".join(str(i // 4) for i in range(N_ITEMS)) + "\n")

    def invoke(*arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(commands, [str(a) for a in arguments], prog_name="relspace")
        assert result.exit_code == code, result.output
        if code:
            assert result.stdout == ""
            assert "Traceback" not in result.stderr
        return result

    return invoke


class TestCompare:
    def test_table_shows_every_value_beside_chance(self, run: Run) -> None:
        lines = run("compare", "vit.npy", "cnn.npy", "--permutations", 19).stdout.splitlines()
        assert lines[0].split() == ["measure", "value", "chance", "sd", "p", "calibrated"]
        assert [line.split()[0] for line in lines[1:4]] == ["affinity", "cka", "rsa"]
        assert all(line.split()[-2] == "0.0500" for line in lines[1:4])
        assert lines[-1] == "40 items matched by position; 19 permutations"

    def test_dissimilarities_are_compared_as_they_are(self, run: Run) -> None:
        a, b = (pdist(np.load(f"{name}.npy")) for name in ("vit", "cnn"))
        np.save("a.npy", squareform(a))
        savemat("b.mat", {"rdm": squareform(b), "other": 1})
        options = ("--measure", "rsa,cka", "--json", "--dissimilarities")
        found = json.loads(run("compare", "a.npy", "b.mat::rdm", *options).stdout)
        rsa, cka = found["comparisons"]
        assert rsa["value"] == pytest.approx(np.corrcoef(a, b)[0, 1])
        assert rsa["p_value"] == 0.01
        assert "holds dissimilarities, and the measure cka reads features" in cka["error"]
        assert found["files"]["b"] == {"path": "b.mat", "key": "rdm"}
        assert (
            "choose one by key"
            in run("compare", "a.npy", "b.mat", "--dissimilarities", code=2).stderr
        )
        assert (
            "only .mat files"
            in run("compare", "a.npy::x", "b.mat::rdm", "--dissimilarities", code=2).stderr
        )

    def test_json_is_what_the_library_says(self, run: Run) -> None:
        arguments = ("compare", "vit.npy", "cnn.npy", "--measure", "cka", "--permutations", 9)
        found = json.loads(run(*arguments, "--random-state", 3, "--json").stdout)
        expected = rs.compare(
            *(np.load(f"{name}.npy") for name in ("vit", "cnn")),
            names=("vit", "cnn"),
            measure="cka",
            n_permutations=9,
            random_state=3,
        )
        assert found["comparisons"] == [{"from": "vit", "to": "cnn", **expected.to_dict()}]
        assert found["files"]["vit"] == {"path": "vit.npy", "key": None}

    def test_every_pair_of_several_sets(self, run: Run) -> None:
        result = run("compare", "vit.npy", "cnn.npy", "noise.npy", "--measure", "cka")
        pairs = [line.split("  ")[0] for line in result.stdout.splitlines()[1:4]]
        assert pairs == ["vit - cnn", "vit - noise", "cnn - noise"]

    def test_groups_interval_and_ceiling(self, run: Run) -> None:
        result = run(
            *("compare", "vit.npy", "cnn.npy", "--measure", "cka", "--groups", "groups.txt"),
            *("--bootstraps", 9, "--ceiling"),
        )
        header = result.stdout.splitlines()[0].split()
        assert header == [
            "measure",
            "value",
            "chance",
            "sd",
            "p",
            "calibrated",
            "from",
            "to",
            "ceiling",
        ]
        assert "in 10 groups" in result.stdout

    def test_a_measure_that_is_refused_does_not_hide_the_others(self, run: Run) -> None:
        result = run("compare", "vit.npz::layer_1", "cnn.npy", "--measure", "cka,cca")
        assert "cka" in result.stdout
        result = run("compare", "wide=vit.npy", "noise.npy", "--measure", "all", "--json")
        found = {one["measure"]: one for one in json.loads(result.stdout)["comparisons"]}
        assert set(found) == set(rs.measures.names())
        wide = np.random.default_rng(0).normal(size=(N_ITEMS, 50))
        np.save("wide.npy", wide)
        lines = run("compare", "wide.npy", "vit.npy", "--measure", "cka,cca").stdout.splitlines()
        assert lines[2].split() == ["cca", "refused"]
        assert any(line.startswith("cca: the sets have") for line in lines)
        lines = run(
            *("compare", "vit.npy", "cnn.npy", "--measure", "cka,rsa_kendall"),
            *("--memory-budget", "60kB", "--by-position"),
        ).stdout.splitlines()
        assert lines[2].split() == ["rsa_kendall", "refused"]
        alone = run("compare", "wide.npy", "vit.npy", "--measure", "cca", code=2)
        assert "canonical correlations are 1" in alone.stderr

    def test_ids(self, run: Run) -> None:
        found = json.loads(
            run("compare", "vit_ids.npz::layer_1", "cnn_ids.npz::block_1", "--json").stdout
        )
        assert found["comparisons"][0]["matched_by"] == "ids"
        straight = rs.compare(np.load("vit.npy"), np.load("cnn.npy"))
        assert found["comparisons"][0]["value"] == pytest.approx(straight.value, abs=1e-9)

    def test_measures_are_listed(self, run: Run) -> None:
        lines = run("compare", "--list-measures").stdout.splitlines()
        assert lines[0].startswith("name ")
        assert [line.split()[0] for line in lines[1:]] == list(rs.measures.names())

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--measure", "cika"), "there is no measure 'cika'"),
            (("--measure", ","), "--measure names no measure"),
            (("--groups", "gone.txt"), "there is no file gone.txt"),
        ],
    )
    def test_errors(self, run: Run, arguments: tuple[str, ...], said: str) -> None:
        result = run("compare", "vit.npy", "cnn.npy", *arguments, code=2)
        assert said in result.stderr.splitlines()[-1]


class TestLayers:
    def test_table_of_best_matches_both_ways(self, run: Run) -> None:
        lines = run("layers", "vit.npz", "cnn.npz").stdout.splitlines()
        assert lines[0].startswith("layer of vit  most alike in cnn")
        assert [line.split()[0] for line in lines[1:4]] == ["layer_1", "layer_2", "layer_3"]
        assert lines[5].startswith("layer of cnn  most alike in vit")
        assert lines[-1] == "affinity, 40 items matched by position; 99 permutations"

    def test_json_is_what_the_library_says(self, run: Run) -> None:
        arguments = ("layers", "vit.npz", "cnn.npz", "--measure", "cka", "--permutations", 9)
        found = json.loads(run(*arguments, "--json").stdout)
        sets = [dict(np.load(name)) for name in ("vit.npz", "cnn.npz")]
        expected = rs.compare_layers(*sets, measure="cka", n_permutations=9, names=["vit", "cnn"])
        assert found == {**expected.to_dict(), "output": None}

    @pytest.mark.parametrize(
        ("n_models", "name", "start"),
        [
            (2, "l.html", b"<!doctype html>"),
            (2, "l.png", b"\x89PNG"),
            (2, "l.svg", b"<?xml"),
            (2, "l.pdf", b"%PDF"),
            (3, "l.html", b"<!doctype html>"),
            (3, "l.png", b"\x89PNG"),
        ],
    )
    def test_page_and_figures(self, run: Run, n_models: int, name: str, start: bytes) -> None:
        models = ("vit.npz", "cnn.npz", "noise.npz")[:n_models]
        result = run("layers", *models, "--permutations", 0, "-o", name)
        assert result.stdout.endswith(f"Written to {name}\n")
        content = Path(name).read_bytes()
        assert content.lower().startswith(start.lower())
        refused = run("layers", *models, "--permutations", 0, "-o", name, code=2)
        assert f"{name}', which exists: overwrite it with --force" in refused.stderr
        run("layers", *models, "--permutations", 0, "-o", name, "--force")
        assert Path(name).read_bytes() == content or name.endswith((".svg", ".pdf"))

    def test_three_models_make_a_table_of_models(self, run: Run) -> None:
        result = run("layers", "vit.npz", "cnn.npz", "noise.npz")
        lines = result.stdout.splitlines()
        assert lines[0].split() == ["mean", "best", "match", "vit", "cnn", "noise"]
        assert "p of the most alike layers" in result.stdout
        assert "Preparing layers of noise: 1 of 1" in result.stderr

    def test_dissimilarities_are_compared_as_they_are(self, run: Run) -> None:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(30, 5))
        models = {"a": {"in": X, "out": X**2}, "b": {"in": X[:, :3]}}
        for name, layers in models.items():
            matrices = {layer: squareform(pdist(Z)) for layer, Z in layers.items()}
            np.savez(f"{name}_d.npz", **matrices)
            np.savez(f"{name}.npz", **layers)
        files = ("layers", "a_d.npz", "b_d.npz", "--dissimilarities", "--measure", "rsa", "--json")
        found = json.loads(run(*files).stdout)
        euclidean = rs.measures.get("rsa", distance="euclidean")
        known = rs.compare_layers(models["a"], models["b"], measure=euclidean)
        np.testing.assert_allclose(found["values"], known.values, atol=1e-9)
        np.testing.assert_array_equal(found["p_values"], known.p_values)
        wrong = run("layers", "a.npz", "b_d.npz", "--dissimilarities", "--measure", "rsa", code=2)
        assert "a.npz, in" in wrong.stderr
        refused = run("layers", "a_d.npz", "b_d.npz", "--dissimilarities", code=2).stderr
        assert "holds dissimilarities, and the measure affinity reads features" in refused

    def test_ids_and_positions(self, run: Run) -> None:
        assert "matched by ids" in run("layers", "vit_ids.npz", "cnn_ids.npz").stdout
        result = run("layers", "vit_ids.npz", "cnn_ids.npz", "--by-position")
        assert "matched by position" in result.stdout
        result = run("layers", "vit_ids.npz", "cnn.npz", code=2)
        assert "has some: match rows by position with --by-position" in result.stderr

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("vit.npz",), "name two sets or more"),
            (("vit.npz::layer_1", "cnn.npz"), "no ::KEY"),
            (
                ("vit.npz", "cnn.npz", "-o", "l.txt"),
                "is 'l.txt'; a page or figure is a file that ends in",
            ),
            (("vit.npz", "cnn.npz", "-o", "gone/l.html"), "there is no folder gone"),
        ],
    )
    def test_errors(self, run: Run, arguments: tuple[str, ...], said: str) -> None:
        assert said in run("layers", *arguments, code=2).stderr


class TestStores:
    @pytest.fixture
    def stores(self, run: Run) -> list[str]:
        """Feature stores of two models that see the same six photographs on grids of their own."""
        rng = np.random.default_rng(0)
        Path("photos").mkdir()
        for i in range(6):
            pixels = rng.integers(0, 255, size=(24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"photos/{i}.png")
        names = []
        for name, patch in (("fine", 4), ("coarse", 6)):
            torch.manual_seed(patch)
            network = torch.nn.Sequential(
                torch.nn.Conv2d(3, 8, patch, patch), torch.nn.Conv2d(8, 10, 1)
            )
            model = rs.ModuleModel(
                network, ["0", "1"], layout="bchw", preprocessing=rs.Preprocessing(size=(24, 24))
            )
            rs.extract(model, "photos", out=f"{name}.zarr")
            names.append(f"{name}.zarr")
        return names

    def test_layers_of_stores(self, run: Run, stores: list[str]) -> None:
        found = json.loads(run("layers", *stores, "--permutations", 5, "--json").stdout)
        assert (found["n_items"], found["matched_by"]) == (6, "ids")
        sets = [rs.open_features(store).pool("mean") for store in stores]
        expected = rs.compare_layers(*sets, n_permutations=5)
        np.testing.assert_allclose(found["values"], expected.values, atol=1e-9)
        assert "different numbers of rows" not in run("layers", *stores, "--by-position").stderr
        # Tokens on two grids are read at the same places, which are permuted image by image.
        tokens = run("layers", *stores, "--pool", "none", "--permutations", 5)
        assert "996 items in 6 groups matched by ids" in tokens.stdout

    def test_stores_at_urls(self, run: Run, stores: list[str]) -> None:
        urls = [f"{store[:-5]}=file://{Path(store).absolute()}" for store in stores]
        arguments = ("--measure", "cka", "--permutations", 5, "--json")
        found = json.loads(run("layers", *urls, *arguments).stdout)
        assert found == json.loads(run("layers", *stores, *arguments).stdout)
        assert "--scheduler" in run("layers", "--help").stdout

    def test_compare_layers_of_stores(self, run: Run, stores: list[str]) -> None:
        sets = [f"{store}::1" for store in stores]
        found = json.loads(run("compare", *sets, "--measure", "cka", "--json").stdout)
        one = found["comparisons"][0]
        assert (one["n_items"], one["matched_by"], one["n_features"]) == (6, "ids", [10, 10])


@pytest.mark.parametrize(
    ("options", "n_items", "null_by"),
    [
        (["--memory-budget", "20kB"], 400, "limit"),
        (["--max-items", "100"], 100, "permutations"),
        (["--memory-budget", "1GiB", "--by-position"], 400, "permutations"),
    ],
)
def test_files_larger_than_memory(
    tmp_path: Path, options: list[str], n_items: int, null_by: str
) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5))
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "b.npy", X @ rng.normal(size=(5, 4)))
    files = [str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]
    command = ["compare", *files, "--measure", "cka", "--json", *options]
    result = CliRunner().invoke(commands, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    (one,) = json.loads(result.stdout)["comparisons"]
    assert (one["n_items"], one["n_available"], one["null_by"]) == (n_items, 400, null_by)
    whole = rs.compare(X, np.load(files[1]), measure="cka").value
    assert one["value"] == pytest.approx(whole, abs=1e-9 if n_items == 400 else 0.2)


@pytest.mark.parametrize(("kind", "n_models"), [("h5", 2), ("safetensors", 3)])
def test_layers_of_files_larger_than_memory(run: Run, kind: str, n_models: int) -> None:
    names = ["vit_ids", "cnn", "noise"][:n_models]
    rng = np.random.default_rng(0)
    for name in names:
        few = {key: rows for key, rows in np.load(f"{name}.npz").items() if key != "ids"}
        layers = {key: np.tile(rows, (50, 1)) for key, rows in few.items()}
        layers = {key: rows + rng.normal(size=rows.shape) for key, rows in layers.items()}
        if kind == "safetensors":
            save_file(layers, f"{name}.{kind}")
            continue
        with h5py.File(f"{name}.{kind}", "w") as file:
            for layer, values in layers.items():
                file[layer] = values
    arguments = ["layers", *(f"{name}.{kind}" for name in names), "--by-position", "--json"]
    arguments += ["--measure", "cka"]
    whole = json.loads(run(*arguments).stdout)
    # 2000 items of 76 features and more in float64 are 1.2 MB and more; their products take less.
    read = json.loads(run(*arguments, "--memory-budget", "300kB").stdout)
    assert (whole["null_by"], read["null_by"]) == ("permutations", "limit")
    np.testing.assert_allclose(read["values"], whole["values"], atol=1e-9)
    assert list(read["layers"]) == list(whole["layers"])
    part = run(*arguments[:-3], "--measure", "cka", "--max-items", "30").stdout
    assert "30 of 2000 items, at random, matched by position" in part


def test_ids_elsewhere_are_taken_for_files_that_are_read_in_parts(run: Run) -> None:
    Path("ids.txt").write_text("\n".join(f"photo {i}" for i in range(N_ITEMS)))
    arguments = ("compare", "vit.npy", "cnn.npy", "--ids", "ids.txt", "--measure", "cka", "--json")
    whole, parts = (
        json.loads(run(*arguments, *further).stdout)["comparisons"][0]
        for further in ((), ("--memory-budget", "1GiB"))
    )
    assert whole["matched_by"] == parts["matched_by"] == "ids"
    assert parts["value"] == pytest.approx(whole["value"], abs=1e-9)


def test_refusals_name_the_files(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "dino.npy", rng.normal(size=(40, 5)))
    np.save(tmp_path / "clip.npy", rng.normal(size=(39, 4)))
    arguments = ("compare", tmp_path / "dino.npy", tmp_path / "clip.npy", "--measure", "cka")
    assert "dino has 40 items and clip has 39" in run(*arguments, code=2).stderr
    read = run(*arguments, "--memory-budget", "1kB", code=2)
    assert "dino has 40 items and clip has 39" in read.stderr
