"""Hostile calls of every command, on files as they must not be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from click.testing import CliRunner
from tests.hostile.cases import Tried
from tests.hostile.inputs import BASE
from tests.hostile.library import BROKEN, OTHER

import relspace as rs
from relspace.cli import commands


@dataclass(frozen=True)
class CommandCase:
    """One hostile command.

    Attributes
    ----------
    name : str
        What is hostile about it.
    arguments : sequence of str
        The command line; files lie in the working directory.
    words : sequence of str
        What the one line on stderr must say; empty where the command must do what it is told.
    """

    name: str
    arguments: Sequence[str]
    words: Sequence[str] = ()

    @property
    def area(self) -> str:
        """The command."""
        return f"relspace {self.arguments[0]}"

    def __str__(self) -> str:
        return f"{self.area}: {self.name}"


@cache
def _runner() -> CliRunner:
    return CliRunner()


def try_command(case: CommandCase, folder: Path) -> Tried:
    """Run in a folder of inputs, and say whether it was refused in one line, or done."""
    before = _contents(folder)
    done = _runner().invoke(commands, list(case.arguments), prog_name="relspace")
    after = _contents(folder)
    lines = [line for line in done.stderr.splitlines() if line]
    raised = done.exception is not None and not isinstance(done.exception, SystemExit)
    if raised or "Traceback" in done.output:
        return Tried("wrong", f"a traceback: {done.exception!r}")
    if not case.words:
        if done.exit_code:
            return Tried("wrong", f"was refused: {lines[-1:]}")
        for path in {Path(path).parts[0] for path in after.keys() - before.keys()}:
            shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()
        changed = [path for path in before if after.get(path) != before[path]]
        return Tried("wrong", f"changed {changed}") if changed else Tried("right value")
    if done.exit_code != 2:
        return Tried("wrong", f"exit code {done.exit_code}: {done.output[-300:]!r}")
    # An output that was begun lies beside its name, hidden, until it is whole or given up.
    begun = [name for name in after if name.startswith(".") and name not in before]
    for name in begun:
        (folder / name).unlink()
        del after[name]
    if before != after:
        left = sorted(set(after.items()) ^ set(before.items()))
        return Tried("wrong", f"left or changed {left[:3]}")
    if done.stdout:
        return Tried("wrong", f"printed {done.stdout[:80]!r}")
    missing = [word for word in case.words if word.lower() not in " ".join(lines).lower()]
    if missing:
        return Tried("wrong", f"lacks {missing}: {lines[-1:]}")
    return Tried("refused by name")


def _contents(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def write_inputs(folder: Path) -> None:
    """Write all files that the commands are given."""
    X, Y = BASE.astype(np.float32), OTHER.astype(np.float32)
    np.save(folder / "a.npy", X)
    np.save(folder / "b.npy", Y)
    np.savez(folder / "a.npz", early=X, late=X[:, ::-1])
    np.savez(folder / "b.npz", early=Y, late=Y[:, ::-1])
    for name, content in BROKEN.items():
        (folder / name).write_bytes(content)
    for name, array in _arrays().items():
        np.save(folder / f"{name}.npy", array)
        np.savez(folder / f"{name}.npz", layer=array)
    torch.save({"x": torch.empty(24, 6, device="meta")}, folder / "meta.pt")
    torch.save({"x": torch.from_numpy(X).to_sparse()}, folder / "sparse.pt")
    torch.save({"x": object}, folder / "class.pt")
    torch.save({"x": torch.from_numpy(X), "y": torch.from_numpy(Y)}, folder / "two.pt")
    np.save(folder / "objects.npy", X.astype(object), allow_pickle=True)
    (folder / "ids.txt").write_text("\n".join(f"i{n}" for n in range(len(X))))
    (folder / "few.txt").write_text("i0\ni1\n")
    (folder / "twice.txt").write_text("\n".join(["i0"] * len(X)))
    (folder / "good.csv").write_text(
        "id,f0,f1\n" + "".join(f"r{n},{n},{n * n}\n" for n in range(9))
    )
    (folder / "null.csv").write_text("id,f0,f1\nr0,1,\nr1,2,3\nr2,4,5\nr3,5,9\n")
    (folder / "texts.txt").write_text("one\ntwo\n")
    (folder / "empty_folder").mkdir()
    (folder / "folder.npy").mkdir()
    rs.align({"a": X, "b": Y}).save(folder / "space.safetensors")
    rs.NormalizedCut(3, density=0.2).fit(X).save(folder / "cut.safetensors.saved")
    (folder / "newer.safetensors").write_bytes(_newer(folder / "space.safetensors"))


def _newer(path: Path) -> bytes:
    """The same space as a later version of the format would write it."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = json.loads(header["__metadata__"]["relspace"]) | {"format_version": 99}
    # Its checksum would tell first that it was changed.
    metadata.pop("sha256", None)
    header["__metadata__"]["relspace"] = json.dumps(metadata)
    written = json.dumps(header).encode()
    return len(written).to_bytes(8, "little") + written + content[8 + size :]


def _arrays() -> dict[str, np.ndarray]:
    X = BASE.astype(np.float32)
    bad = X.copy()
    bad[3, 2] = np.nan
    infinite = X.copy()
    infinite[3, 2] = np.inf
    return {
        "nan": bad,
        "infinite": infinite,
        "constant": np.full_like(X, 2.5),
        "zeros": np.zeros_like(X),
        "one_row": X[:1],
        "two_rows": X[:2],
        "fewer_rows": X[:-1],
        "no_rows": X[:0],
        "no_columns": X[:, :0],
        "one_axis": X[:, 0],
        "three_axes": X.reshape(4, 6, 6),
        "complex": X.astype(np.complex64),
        "bools": X > 0,
        "words": X.astype("U8"),
        "structured": np.zeros(24, dtype=[("x", "f4"), ("y", "f4")]),
        "dates": (X * 30).astype("datetime64[D]"),
        "huge": BASE * 2.0**1000,
        "tiny": BASE * 2.0**-1000,
        "integers": np.round(BASE * 64).astype(np.int64) + 2**40,
        "big_endian": BASE.astype(">f8"),
    }


#: Files that no command takes for features, with what is said of each.
_BAD_FILES: dict[str, Sequence[str]] = {
    **{name: [name] for name in BROKEN},
    "gone.npy": ["no file", "gone.npy"],
    "gone/a.npy": ["gone/a.npy"],
    "gone.zarr": ["gone.zarr"],
    "folder.npy": ["folder.npy"],
    "empty_folder": ["empty_folder"],
    "nan.npy": ["nan", "3"],
    "infinite.npy": ["infinite", "3"],
    "no_rows.npy": ["no_rows", "empty"],
    "no_columns.npy": ["no_columns", "empty"],
    "one_axis.npy": ["one_axis", "shape"],
    "three_axes.npy": ["three_axes", "shape"],
    "complex.npy": ["complex"],
    "bools.npy": ["bool"],
    "words.npy": ["words"],
    "structured.npy": ["structured"],
    "dates.npy": ["dates.npy", "floats"],
    "objects.npy": ["objects.npy"],
    "meta.pt": ["meta"],
    "sparse.pt": ["sparse"],
    "class.pt": ["class.pt"],
    "two.pt": ["two.pt", "x", "y"],
    "null.csv": ["null.csv"],
    "x=a.npz": ["a.npz", "early"],
    "a.npz::gone": ["gone", "early"],
    "a.npy::key": ["key"],
    "space.safetensors": ["space.safetensors"],
    "https://localhost:1/a.zarr": ["localhost"],
    "unknown://a/b.zarr": ["unknown"],
}


#: Its method is one that does with the few landmarks of the space.
TRANSLATE = ["translate", "space.safetensors", "a", "b", "--method", "procrustes"]


def cases() -> Iterator[CommandCase]:
    """All hostile commands."""
    out = ["-o", "out.safetensors"]
    for name, words in _BAD_FILES.items():
        yield CommandCase(name, ["align", name, "a.npy", *out], words)
        yield CommandCase(name, ["compare", name, "a.npy"], words)
        is_space = name == "space.safetensors"
        embed = ["embed", name, "-o", "embedded", "--components", "2"]
        yield CommandCase(name, embed, [] if is_space else words)
        for verb in (["transform", "space.safetensors", "a"], TRANSLATE):
            yield CommandCase(name, [*verb, name, "-o", "out.npy"], words)
    takes_layers = {"x=a.npz", "two.pt", "a.npz::gone", "a.npy::key"}
    arrays = {f"{name}.npy" for name in _arrays()}
    for name, words in _BAD_FILES.items():
        file = name.replace(".npy", ".npz") if name in arrays else name
        if name not in takes_layers:
            no_layers = name in arrays and name not in ("nan.npy", "infinite.npy")
            said = [file] if no_layers or name.endswith("npy") else words
            yield CommandCase(file, ["layers", file, "b.npz"], said)
        place = name.rpartition("=")[2].partition("::")[0]
        yield CommandCase(
            name,
            ["report", name, "-o", "p.html"],
            [] if name == "space.safetensors" else [place.rpartition("/")[2]],
        )
    yield from _few_items()
    yield from _options()
    yield from _right()


def _few_items() -> Iterator[CommandCase]:
    out = ["-o", "out.safetensors"]
    for name in ("constant", "zeros", "one_row", "two_rows"):
        yield CommandCase(name, ["align", f"{name}.npy", f"x={name}.npy", *out], [name])
        yield CommandCase(name, ["compare", f"{name}.npy", f"x={name}.npy"], ["error"])
        yield CommandCase(name, ["layers", f"{name}.npz", f"x={name}.npz"], ["error"])
    yield CommandCase("fewer rows", ["align", "fewer_rows.npy", "b.npy", *out], ["23", "24"])
    yield CommandCase("fewer rows", ["compare", "fewer_rows.npy", "b.npy"], ["23", "24"])
    yield CommandCase("fewer rows", ["layers", "fewer_rows.npz", "b.npz"], ["23", "24"])


def _options() -> Iterator[CommandCase]:
    two = ["a.npy", "b.npy"]
    transform = ["transform", "space.safetensors", "a"]
    report = ["report", "space.safetensors", "-o"]
    align = ["align", *two, "-o", "out.safetensors"]
    table: list[tuple[str, Sequence[str], Sequence[str]]] = [
        ("no space", ["plot", "a.npz", "-o", "p.png"], ["a.npz"]),
        ("a newer space", ["plot", "newer.safetensors", "-o", "p.png"], ["newer"]),
        ("another ending", ["plot", "space.safetensors", "-o", "p.html"], ["ends in"]),
        ("an input", ["plot", "space.safetensors", "-o", "a.npy"], ["ends in"]),
        ("no space", ["match", "a.npz", "a", "b", "-o", "m.csv"], ["a.npz"]),
        ("no such set", ["match", "space.safetensors", "a", "x", "-o", "m.csv"], ["'x'"]),
        (
            "more neighbours than items",
            ["match", "space.safetensors", "a", "b", "-o", "m.csv", "--neighbors", "24"],
            ["24"],
        ),
        ("no files", ["align", "-o", "out.safetensors"], ["Missing argument"]),
        ("one file", ["align", "a.npy", "-o", "out.safetensors"], ["two sets or more"]),
        ("no output", ["align", *two], ["--output"]),
        ("one name twice", ["align", "a.npy", "a.npy", "-o", "o.safetensors"], ["called 'a'"]),
        ("an empty name", ["align", "=a.npy", "b.npy", "-o", "o.safetensors"], ["=a.npy"]),
        ("an empty key", ["align", "a.npz::", "b.npy", "-o", "o.safetensors"], ["a.npz::"]),
        ("an empty file", ["align", "", "b.npy", "-o", "o.safetensors"], ["NAME"]),
        ("another ending", ["align", *two, "-o", "o.npz"], ["ends in .safetensors"]),
        ("a folder that is not there", ["align", *two, "-o", "g/o.safetensors"], ["no folder g"]),
        ("a folder", ["align", *two, "-o", "empty_folder"], ["ends in"]),
        ("an output that is there", ["align", *two, "-o", "space.safetensors"], ["--force"]),
        ("no density", [*align, "--density", "0"], ["density"]),
        ("density 1", [*align, "--density", "1"], ["density"]),
        ("density NaN", [*align, "--density", "nan"], ["density"]),
        ("density of text", [*align, "--density", "x"], ["density"]),
        ("two landmarks", [*align, "--landmarks", "2"], ["landmarks"]),
        ("landmarks of text", [*align, "--landmarks", "x"], ["landmarks"]),
        ("an unknown normalization", [*align, "--normalize", "x"], ["normalize"]),
        ("no normalization", [*align, "--normalize", ""], ["normalize"]),
        ("an unknown standardization", [*align, "--standardize", "x"], ["standardize"]),
        ("a negative seed", [*align, "--random-state", "-1"], ["random"]),
        (
            "a negative seed, no files",
            ["align", "n", "m", *align[3:], "--random-state", "-1"],
            ["range"],
        ),
        ("a seed beyond 64 bits", [*align, "--random-state", str(2**63)], ["range"]),
        ("a seed of text", [*align, "--random-state", "x"], ["random"]),
        ("no memory", [*align, "--memory-budget", "0"], ["bytes"]),
        ("memory of text", [*align, "--memory-budget", "much"], ["bytes"]),
        ("ids that are not there", [*align, "--ids", "gone.txt"], ["gone.txt"]),
        ("too few ids", [*align, "--ids", "few.txt"], ["2 ids"]),
        ("one id twice", [*align, "--ids", "twice.txt"], ["i0"]),
        ("ids for all twice", [*align, "--ids", "ids.txt", "--ids", "few.txt"], ["both for all"]),
        ("a column of no table", [*align, "--id-column", "id"], ["--id-column"]),
        (
            "an unknown column",
            ["align", "good.csv", "x=good.csv", "--id-column", "name", "-o", "o.safetensors"],
            ["name"],
        ),
        ("an unknown option", [*align, "--colour"], ["--colour"]),
        ("an unknown command", ["aling", *two], ["aling"]),
        ("a scheduler that is not there", [*align, "--scheduler", "nowhere"], ["nowhere"]),
        ("an unknown measure", ["compare", *two, "--measure", "ckaa"], ["ckaa", "cka"]),
        ("no measure", ["compare", *two, "--measure", ""], ["measure"]),
        ("measures of commas", ["compare", *two, "--measure", ",,"], ["measure"]),
        ("negative permutations", ["compare", *two, "--permutations", "-1"], ["permutations"]),
        ("permutations of text", ["compare", *two, "--permutations", "x"], ["permutations"]),
        ("negative bootstraps", ["compare", *two, "--bootstraps", "-1"], ["bootstraps"]),
        ("three items", ["compare", *two, "--max-items", "3"], ["max-items"]),
        ("permutations for ever", ["compare", *two, "--permutations", "10000000000"], ["--perm"]),
        ("bootstraps for ever", ["compare", *two, "--bootstraps", "1" + 15 * "0"], ["--boot"]),
        ("groups in Latin 1", ["compare", *two, "--groups", "latin1.csv"], ["label", "latin1.csv"]),
        ("groups in a folder", ["compare", *two, "--groups", "empty_folder"], ["empty_folder"]),
        ("groups that are not there", ["compare", *two, "--groups", "gone.txt"], ["gone.txt"]),
        ("groups of few", ["compare", *two, "--groups", "few.txt"], ["2"]),
        ("an unknown measure of a curve", ["curve", *two, "--measure", "ckaa"], ["ckaa"]),
        ("sizes of text", ["curve", *two, "--sizes", "x"], ["sizes"]),
        ("galleries of one item", ["curve", *two, "--sizes", "1"], ["size is 1"]),
        ("galleries larger than the sets", ["curve", *two, "--sizes", "10000"], ["sizes"]),
        ("no draws", ["curve", *two, "--draws", "0"], ["draws"]),
        ("no neighbours", ["curve", *two, "--k", "0"], ["--k"]),
        ("groups that are not there", ["curve", *two, "--groups", "gone.txt"], ["gone.txt"]),
        ("too few groups", ["curve", *two, "--groups", "few.txt"], ["2"]),
        ("another ending of a curve", ["curve", *two, "-o", "c.gif"], ["c.gif"]),
        ("a set of a curve that is not there", ["curve", "gone.npy", "b.npy"], ["gone.npy"]),
        ("no rival models", ["rank", "a.npy"], ["--model"]),
        ("a rival that is not there", ["rank", "a.npy", "--model", "gone.npy"], ["gone.npy"]),
        ("two rivals of one name", ["rank", "a.npy", *2 * ["--model", "b.npy"]], ["b"]),
        ("a constant rival", ["rank", "a.npy", "--model", "constant.npy"], ["constant"]),
        ("a rival of fewer rows", ["rank", "a.npy", "--model", "fewer_rows.npy"], ["23", "24"]),
        ("two references, one NaN", ["rank", "a.npy", "nan.npy", "--model", "b.npy"], ["nan"]),
        ("few halves", ["rank", "a.npy", "--model", "b.npy", "--bootstraps", "1"], ["--boot"]),
        ("an unknown rank", ["rank", "a.npy", "--model", "b.npy", "--measure", "ckaa"], ["ckaa"]),
        ("a rank of gif", ["rank", "a.npy", "--model", "b.npy", "-o", "r.gif"], ["r.gif"]),
        (
            "features as dissimilarities",
            ["rank", "a.npy", "--model", "b.npy", "--dissimilarities", "--measure", "rsa"],
            ["shape"],
        ),
        ("an unknown measure of layers", ["layers", "a.npz", "b.npz", "--measure", "x"], ["x"]),
        ("another ending of layers", ["layers", "a.npz", "b.npz", "-o", "o.gif"], [".html"]),
        ("a key of layers", ["layers", "a.npz::early", "b.npz"], ["::KEY"]),
        (
            "an unknown set",
            ["transform", "space.safetensors", "c", "a.npy", "-o", "o.npy"],
            ["'c'"],
        ),
        (
            "an unknown set to translate to",
            ["translate", "space.safetensors", "a", "c", "a.npy", "-o", "o.npy"],
            ["'c'"],
        ),
        ("features of the other set", [*TRANSLATE, "b.npy", "-o", "o.npy"], ["5 features", "6"]),
        ("an unknown way", [*TRANSLATE, "a.npy", "-o", "o.npy", "--method", "x"], ["--method"]),
        ("no space", ["translate", "a.npy", "a", "b", "a.npy", "-o", "o.npy"], ["a.npy"]),
        ("no space", ["transform", "a.npy", "a", "a.npy", "-o", "o.npy"], ["a.npy"]),
        (
            "a space that is not there",
            ["transform", "gone.safetensors", "a", "a.npy", "-o", "o.npy"],
            ["gone.safetensors"],
        ),
        (
            "features of another set",
            [*transform, "b.npy", "-o", "o.npy"],
            ["5 features", "6"],
        ),
        (
            "another ending of rows",
            [*transform, "a.npy", "-o", "o.txt"],
            ["o.txt"],
        ),
        (
            "an unknown type",
            [*transform, "a.npy", "-o", "o.npy", "--dtype", "int8"],
            ["int8"],
        ),
        (
            "an unknown device",
            [*transform, "a.npy", "-o", "o.npy", "--device", "tpux"],
            ["tpux"],
        ),
        ("a later format", ["report", "newer.safetensors", "-o", "p.html"], ["format version 99"]),
        ("a saved cut", ["report", "cut.safetensors.saved", "-o", "p.html"], ["normalized cut"]),
        ("another ending of a page", [*report, "p.pdf"], [".html"]),
        (
            "a page that is a folder",
            [*report, "empty_folder"],
            ["folder"],
        ),
        (
            "no images",
            [*report, "p.html", "--n-images", "0"],
            ["images"],
        ),
        (
            "images that are not there",
            [*report, "p.html", "--images", "gone"],
            ["gone"],
        ),
        (
            "a folder without images",
            [*report, "p.html", "--images", "empty_folder"],
            ["empty_folder"],
        ),
        (
            "features of items",
            [*report, "p.html", *["--features", "a=a.npy"] * 2],
            ["called 'a'"],
        ),
        ("no components", ["embed", "a.npy", "-o", "e", "--components", "0"], ["components"]),
        (
            "too many components",
            ["embed", "a.npy", "-o", "e", "--components", "99"],
            ["components"],
        ),
        ("an unknown method", ["embed", "a.npy", "-o", "e", "--method", "x"], ["method"]),
        ("a model that is not there", ["extract", "./gone", "texts.txt", "-o", "s.zarr"], ["gone"]),
        ("a model that is a file", ["extract", "./a.npy", "texts.txt", "-o", "s.zarr"], ["a.npy"]),
        (
            "a folder that is no model",
            ["extract", "./empty_folder", "texts.txt", "-o", "s.zarr"],
            ["empty_folder"],
        ),
        ("no items", ["extract", "./empty_folder", "-o", "s.zarr"], ["images or texts"]),
        (
            "empty layers",
            ["extract", "./m", "texts.txt", "-o", "s.zarr", "--layers", ","],
            ["layers"],
        ),
        (
            "a size of text",
            ["extract", "./m", "texts.txt", "-o", "s.zarr", "--image-size", "big"],
            ["SIZE"],
        ),
        ("a model that is not there", ["model", "./gone"], ["gone"]),
        ("a model that is a file", ["model", "./a.npy"], ["a.npy"]),
        ("a folder that is no model", ["model", "./empty_folder"], ["empty_folder"]),
        ("an unknown catalogue", ["model", "timmm:resnet18"], ["timmm:resnet18"]),
        ("empty layers", ["model", "./m", "--layers", ","], ["layers"]),
        ("two arguments", ["compare-models", "./a", "./b"], ["two models"]),
        (
            "models that are not there",
            ["compare-models", "./gone", "./gone2", "texts.txt", "-o", "p.html"],
            ["gone"],
        ),
        (
            "a panel of another ending",
            ["compare-models", "./a", "./b", "texts.txt", "-o", "p.html", "--panel", "p.gif"],
            [".png"],
        ),
        ("a seed of the demo", ["demo", "-o", "d", "--random-state", "x"], ["random-state"]),
        ("a file for the demo", ["demo", "-o", "a.npy"], ["a.npy"]),
    ]
    for name, arguments, words in table:
        yield CommandCase(name, arguments, words)


def _right() -> Iterator[CommandCase]:
    """What looks hostile and must be done."""
    for name in ("huge", "tiny", "integers", "big_endian"):
        yield CommandCase(name, ["align", f"{name}.npy", "b.npy", "-o", "o.safetensors"])
        yield CommandCase(
            name, ["compare", f"{name}.npy", "b.npy", "--measure", "all", "--permutations", "0"]
        )
        yield CommandCase(
            name, ["layers", f"{name}.npz", "b.npz", "--measure", "cka", "--permutations", "0"]
        )
    for name in ("$^$", "a$b$c", "two\nlines", "\x1b[31m", "{{ 7 }}", "%s", "_x", "x" * 300):
        yield CommandCase(
            f"called {name[:12]!r}", ["align", f"{name}=a.npy", "b.npy", "-o", "o.safetensors"]
        )


def command_cases() -> list[CommandCase]:
    """All hostile commands, in their order."""
    return list(cases())
