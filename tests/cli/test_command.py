"""The command line: what it prints, where, and with which exit code."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

import relspace
from relspace.cli import commands

N_ITEMS = 60


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in a folder with features of one set of items, seen by two models."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    items = rng.normal(size=(N_ITEMS, 5))
    ids = [f"photo {i}" for i in range(N_ITEMS)]
    vit = (items @ rng.normal(size=(5, 16))).astype(np.float32)
    cnn = items @ rng.normal(size=(5, 24))
    np.save("vit.npy", vit)
    np.save("cnn.npy", cnn)
    np.save("noise.npy", rng.normal(size=(N_ITEMS, 8)))
    np.savez("both.npz", vit=vit, cnn=cnn, names=ids)
    np.savez("vit_ids.npz", features=vit, ids=ids)
    order = rng.permutation(N_ITEMS)
    header = ",".join(["photo", *(f"f{i}" for i in range(24))])
    lines = [",".join([ids[i], *map(repr, cnn[i].tolist())]) for i in order]
    Path("cnn.csv").write_text("\n".join([header, *lines]) + "\n")
    Path("ids.txt").write_text("\n".join(ids) + "\n")
    Path("shuffled.txt").write_text("\n".join(ids[i] for i in order) + "\n")
    np.save("shuffled.npy", cnn[order])

    def invoke(*arguments, code=0):
        result = CliRunner().invoke(commands, [str(a) for a in arguments], prog_name="relspace")
        assert result.exit_code == code, result.output
        if code:
            assert result.stdout == ""
        return result

    return invoke


def error_line(result):
    """The last line of stderr, which is all that an error may print beside progress."""
    lines = result.stderr.splitlines()
    assert "Traceback" not in result.stderr
    assert sum(line.startswith("relspace: error: ") for line in lines) == 1
    return lines[-1]


class TestAlign:
    def test_table(self, run):
        result = run("align", "vit.npy", "cnn.npy", "noise.npy", "-o", "s.safetensors")
        assert result.stdout.splitlines()[0].split() == [
            *("set", "rows", "x", "features", "sigma", "density")
        ]
        assert re.search(r"^vit +60 x 16 +[\d.]+ +0.2$", result.stdout, re.M)
        assert re.search(r"^vit -> cnn +[\d.]+ +0.0167 +[\d.]+ +[\d.]+$", result.stdout, re.M)
        assert "60 items matched by position, 60 of them landmarks" in result.stdout
        assert result.stdout.endswith("Space saved to s.safetensors\n")
        assert "Reading vit.npy" in result.stderr
        assert "\x1b" not in result.output

    def test_columns_line_up(self, run):
        result = run("align", "vit.npy", "cnn.npy", "noise.npy", "-o", "s.safetensors")
        blocks = result.stdout.split("\n\n")
        for block in blocks[:2]:
            assert len({len(line) for line in block.splitlines()}) == 1

    def test_json_holds_the_numbers_of_the_table(self, run):
        arguments = ("align", "vit.npy", "cnn.npy", "-o", "s.safetensors")
        table = run(*arguments).stdout
        summary = json.loads(run(*arguments, "--json", "--force").stdout)
        for name, one in summary["sets"].items():
            row = re.search(rf"^{name} .*$", table, re.M).group().split()
            assert row[1:] == [
                *(str(one["n_items"]), "x", str(one["n_features"])),
                *(f"{one['sigma']:.4g}", f"{one['density']:.4g}"),
            ]
        for pair in summary["pairs"]:
            row = re.search(rf"^{pair['from']} -> {pair['to']} .*$", table, re.M).group().split()
            names = ("match_accuracy", "match_chance", "distance", "distance_chance")
            assert row[3:] == [f"{pair[name]:.4f}" for name in names]
        assert summary["output"] == "s.safetensors"
        assert summary["files"]["vit"] == {"path": "vit.npy", "key": None}

    def test_the_saved_space_is_the_one_of_the_library(self, run):
        run("align", "vit.npy", "cnn.npy", "-o", "s.safetensors", "--landmarks", 40)
        saved = relspace.load_space("s.safetensors")
        sets = {"vit": np.load("vit.npy"), "cnn": np.load("cnn.npy")}
        made = relspace.align(sets, landmarks=40)
        for name in sets:
            np.testing.assert_array_equal(saved[name], made[name])

    def test_related_sets_match_and_unrelated_ones_do_not(self, run):
        result = run("align", "vit.npy", "cnn.npy", "noise.npy", "-o", "s.safetensors", "--json")
        pairs = {(p["from"], p["to"]): p for p in json.loads(result.stdout)["pairs"]}
        assert pairs["vit", "cnn"]["match_accuracy"] > 0.8
        assert pairs["vit", "noise"]["match_accuracy"] < 0.15
        assert abs(pairs["vit", "noise"]["distance"] - 1) < 0.1

    @pytest.mark.parametrize(
        "options",
        [
            "vit=vit_ids.npz cnn=cnn.csv --id-column photo",
            "vit=both.npz::vit cnn=cnn.csv --ids vit=names --id-column photo",
            "vit=both.npz::vit cnn.csv --ids names --id-column cnn=photo",
            "vit=vit.npy cnn=shuffled.npy --ids vit=ids.txt --ids cnn=shuffled.txt",
        ],
    )
    def test_ids_bring_rows_into_one_order(self, run, options):
        result = run("align", *options.split(), "-o", "s.safetensors", "--json")
        summary = json.loads(result.stdout)
        assert summary["matched_by"] == "ids"
        assert summary["pairs"][0]["match_accuracy"] > 0.8

    def test_one_source_of_ids_for_all_sets(self, run):
        result = run(
            "align", "both.npz::vit", "both.npz::cnn", "--ids=names", "-o", "s.safetensors"
        )
        assert "matched by ids" in result.stdout

    def test_by_position(self, run):
        arguments = ("align", "vit_ids.npz", "cnn.npy", "-o", "s.safetensors")
        assert (
            "has some: name the items of each: --ids vit_ids=... --ids cnn=..., or match rows by "
            in error_line(run(*arguments, code=2))
        )
        result = run(*arguments, "--by-position")
        assert "60 items matched by position" in result.stdout

    def test_options_reach_the_alignment(self, run):
        result = run(
            *("align", "vit.npy", "cnn.npy", "-o", "s.safetensors", "--json", "--landmarks", 30),
            *(
                "--density",
                0.2,
                "--normalize",
                "none",
                "--standardize",
                "none",
                "--random-state",
                3,
            ),
        )
        summary = json.loads(result.stdout)
        assert summary["n_landmarks"] == 30
        assert summary["parameters"] == {
            "density": 0.2,
            "normalize": "none",
            "standardize": "none",
            "random_state": 3,
        }
        assert summary["sets"]["vit"]["density"] == pytest.approx(0.2, rel=1e-4)

    def test_defaults_are_the_library_s(self):
        parameters = inspect.signature(relspace.align).parameters
        options = {option.name: option.default for option in commands.commands["align"].params}
        for name in ("landmarks", "density", "normalize", "standardize", "random_state"):
            assert options[name] == parameters[name].default

    @pytest.mark.parametrize(
        ("arguments", "names"),
        [
            (("vit.npy", "cnn.npy"), ["vit", "cnn"]),
            (("both.npz::vit", "both.npz::cnn"), ["both::vit", "both::cnn"]),
            (("both.npz::vit", "cnn.npy"), ["both", "cnn"]),
            (("a=vit.npy", "b=both.npz::cnn"), ["a", "b"]),
            (("./vit=1.npy", "cnn.npy"), ["vit=1", "cnn"]),
        ],
    )
    def test_names(self, run, arguments, names):
        Path("vit=1.npy").write_bytes(Path("vit.npy").read_bytes())
        result = run("align", *arguments, "-o", "s.safetensors", "--json")
        assert list(json.loads(result.stdout)["sets"]) == names


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("vit.npy", "-o", "s.safetensors"), "name two sets or more"),
            (("vit.npy", "cnn.npy"), "Missing option '-o'"),
            (("vit.npy", "vit.npy", "-o", "s.safetensors"), "2 sets are called 'vit'"),
            (("a=vit.npy", "a=cnn.npy", "-o", "s.safetensors"), "2 sets are called 'a'"),
            (("=vit.npy", "cnn.npy", "-o", "s.safetensors"), "[NAME=]FILE[::KEY]"),
            (("vit.npy::", "cnn.npy", "-o", "s.safetensors"), "[NAME=]FILE[::KEY]"),
            (("vit.npy", "cnn.npy", "-o", "s.safetensors", "--ids=a", "--ids=b"), "both for all"),
            (("a=vit.npy", "cnn.npy", "-o", "s.safetensors", "--ids=a=x", "--ids=a=y"), "twice"),
        ],
    )
    def test_wrong_usage(self, run, arguments, message):
        result = run("align", *arguments, code=2)
        assert message in result.stderr
        assert not Path("s.safetensors").exists()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("gone.npy", "cnn.npy"), "there is no file gone.npy"),
            (("vit.npy", "ids.txt"), "has the suffix '.txt'"),
            (("both.npz", "cnn.npy"), "2 matrices, vit (60, 16), cnn (60, 24)"),
            (("vit.npy", "cnn.npy", "--density", 2), "density is 2"),
            (("vit.npy", "cnn.npy", "--normalize", "no"), "normalize is 'no'"),
            (
                ("vit.npy", "cnn.npy", "--id-column", "x"),
                "--id-column is for .arrow, .feather, .csv",
            ),
            (("vit.npy", "cnn.csv"), "'photo'"),
            (("vit.npy", "short.npy"), "60"),
            (("vit.npy", "nan.npy"), "nan holds 1 NaN"),
        ],
    )
    def test_wrong_input(self, run, arguments, message):
        np.save("short.npy", np.random.default_rng(0).normal(size=(50, 3)))
        np.save("nan.npy", np.where(np.arange(N_ITEMS * 2) == 7, np.nan, 1.0).reshape(-1, 2))
        result = run("align", *arguments, "-o", "s.safetensors", code=2)
        assert message in error_line(result)
        assert not Path("s.safetensors").exists()

    @pytest.mark.parametrize(
        ("output", "message"),
        [
            ("s.npz", "a space is a file that ends in .safetensors"),
            ("gone/s.safetensors", "there is no folder gone"),
            ("folder.safetensors", "a folder; name a file"),
            ("old.safetensors", "overwrite it with --force"),
        ],
    )
    def test_outputs_that_are_refused_before_any_work(self, run, output, message):
        Path("folder.safetensors").mkdir()
        Path("old.safetensors").write_text("old")
        result = run("align", "gone.npy", "cnn.npy", "-o", output, code=2)
        assert message in error_line(result)
        assert Path("old.safetensors").read_text() == "old"

    def test_an_input_is_never_overwritten(self, run):
        save_file({"x": torch.from_numpy(np.load("vit.npy"))}, "vit.safetensors")
        before = Path("vit.safetensors").read_bytes()
        arguments = ("align", "vit.safetensors", "cnn.npy", "-o", "./vit.safetensors", "--force")
        assert "is one of the inputs" in error_line(run(*arguments, code=2))
        assert Path("vit.safetensors").read_bytes() == before

    def test_force(self, run):
        Path("old.safetensors").write_text("old")
        run("align", "vit.npy", "cnn.npy", "-o", "old.safetensors", "--force")
        assert relspace.load_space("old.safetensors").names == ("vit", "cnn")

    def test_debug_shows_the_traceback(self, run):
        result = run("--debug", "align", "gone.npy", "cnn.npy", "-o", "s.safetensors", code=2)
        assert "Traceback" in result.stderr
        assert result.stderr.splitlines()[-1] == "relspace: error: there is no file gone.npy"

    @pytest.mark.parametrize(
        ("raised", "code", "line"),
        [
            (KeyboardInterrupt(), 130, "relspace: interrupted"),
            (OSError(28, "No space left on device"), 2, "relspace: error: [Errno 28] No space"),
            (MemoryError(), 2, "relspace: error: MemoryError"),
        ],
    )
    def test_what_happens_outside(self, run, monkeypatch, raised, code, line):
        def fail(*_args, **_keywords):
            raise raised

        monkeypatch.setattr("relspace.features.scan_table", fail)
        result = run("align", "vit.npy", "cnn.npy", "-o", "s.safetensors", code=code)
        assert result.stderr.splitlines()[-1].startswith(line)

    def test_warnings_are_one_line(self, run, monkeypatch):
        def warn(*_args, **_keywords):
            import warnings

            warnings.warn("something\nodd", UserWarning, stacklevel=1)
            raise relspace.errors.InvalidInputError("and wrong")

        monkeypatch.setattr("relspace.features.scan_table", warn)
        result = run("align", "vit.npy", "cnn.npy", "-o", "s.safetensors", code=2)
        assert "\nrelspace: warning: something odd\n" in result.stderr


class TestDemo:
    @pytest.fixture
    def study(self, monkeypatch):
        """Stand in for the case study, which has tests of its own and takes half a minute."""
        calls = []

        def run_demo(output, *, random_state, progress):
            calls.append((output, random_state))
            progress(0, 0, "Extracting features")
            return {"photographs": {"after": 0.9}}

        module = ModuleType("relspace.demo.run")
        module.run_demo = run_demo
        page = ModuleType("relspace.demo.page")
        page.summary_table = lambda summary: f"after {summary['after']}"
        monkeypatch.setitem(sys.modules, "relspace.demo.run", module)
        monkeypatch.setitem(sys.modules, "relspace.demo.page", page)
        return calls

    def test_prints_the_table_and_where_the_report_is(self, run, study):
        result = run("demo")
        assert result.stdout == "after 0.9\n\nReport: relspace-demo/report.html\n"
        assert result.stderr == "Loading torch\nExtracting features\n"
        assert study == [(Path("relspace-demo"), 0)]

    def test_options(self, run, study):
        run("demo", "-o", "elsewhere", "--random-state", 5)
        assert study == [(Path("elsewhere"), 5)]

    def test_output_that_is_a_file(self, run, study):
        assert "is a file" in run("demo", "-o", "vit.npy", code=2).stderr
        assert study == []


class TestProcess:
    @pytest.fixture
    def start(self, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", str(Path(relspace.__file__).parents[1]))

        def start(*arguments):
            command = [sys.executable, *map(str, arguments)]
            return subprocess.run(command, capture_output=True, text=True, timeout=600)

        return start

    def test_module_and_version(self, start):
        result = start("-m", "relspace", "--version")
        assert result.returncode == 0
        assert result.stdout.startswith(f"relspace {relspace.__version__} (")

    def test_align(self, run, start):
        result = start(
            "-m", "relspace", "align", "vit.npy", "cnn.npy", "--json", "-o", "s.safetensors"
        )
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["n_items"] == N_ITEMS
        assert Path("s.safetensors").exists()

    def test_commands_load_what_they_need_only_when_they_run(self, start):
        code = (
            "import sys, relspace; before = set(sys.modules)\n"
            "from relspace.cli import commands\n"
            "for arguments in ('--help', 'align --help', 'demo -h', '--version'):\n"
            "    commands(arguments.split(), standalone_mode=False)\n"
            "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
            "print(loaded & {'torch', 'numpy', 'sklearn', 'matplotlib', 'h5py', 'pyarrow'},\n"
            "      'relspace.features' in sys.modules)"
        )
        result = start("-c", code)
        assert result.stdout.splitlines()[-1] == "set() False", result.stderr
