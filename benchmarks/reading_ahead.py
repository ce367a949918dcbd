"""What does it save to read a block and write another while a third is worked on?

    python benchmarks/reading_ahead.py

`relspace transform` of features that lie on disk, as an .npy file and as a compressed Zarr store,
into a Zarr store, with and without reading ahead and writing behind. Every run is a process of its
own, the pages of the source are dropped from memory before it, and the ways take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _measure import Ratio, describe_machine, peak_of_process, reset_peak_memory, write_json

HERE = Path(__file__).resolve().parent
WAYS = ("in turn", "reading ahead", "writing behind", "both")
# Each source, and the bytes that a second of reading gives: None for as fast as the disk is.
SOURCES = (("tokens.npy", None), ("tokens.zarr", None), ("tokens.npy", 2e8))


def make_sources(folder: Path, n_items: int, n_features: int, n_landmarks: int) -> None:
    """Write the same features twice, and a space over some of them."""
    from zarr.codecs import BloscCodec

    import relspace as rs
    from relspace.rows.formats.zarr import import_zarr
    from transform import make_features

    X = make_features(n_items, n_features)
    # As much as float16 tells, which is what stores of features hold, and compresses to 0.6.
    X = X.half().float()
    np.save(folder / "tokens.npy", X.numpy())
    root = import_zarr().create_group(str(folder / "tokens.zarr"))
    codec = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")
    chunks = (min(4096, n_items), n_features)
    root.create_array("features", data=X.numpy(), chunks=chunks, compressors=[codec])
    some = X[: 2 * n_landmarks]
    space = rs.align({"tokens": some, "again": some}, landmarks=n_landmarks)
    space.save(folder / "space.safetensors")


def files_of(place: Path) -> Iterable[Path]:
    """The files that a source is made of."""
    return (one for one in place.rglob("*") if one.is_file()) if place.is_dir() else [place]


def drop_pages(place: Path) -> None:
    """Have the system forget what it read of a source, so that the disk is read."""
    for file in files_of(place):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def switch_off(way: str) -> None:
    """Switch off what the way does without, in this process."""
    import relspace.rows.transform as streaming
    from relspace.rows.ahead import read_ahead

    @contextmanager
    def in_turn(
        source: Any, blocks: Iterable[slice], copies: Any
    ) -> Iterator[Iterator[tuple[slice, torch.Tensor]]]:
        yield read_ahead(lambda rows: source.read(rows.start, rows.stop), blocks, ahead=False)

    @contextmanager
    def write_at_once(
        write: Callable[[slice, Any], object],
        written: Callable[[slice], object],
        *,
        one_core: bool,
    ) -> Iterator[Callable[[slice, Any], None]]:
        def put(rows: slice, values: Any) -> None:
            write(rows, values)
            written(rows)

        yield put

    switched: Any = streaming
    if way in ("in turn", "writing behind"):
        switched.prefetched = in_turn
    if way in ("in turn", "reading ahead"):
        switched.write_behind = write_at_once


def slow_down(bytes_per_second: float) -> None:
    """Have files answer as slowly as a store on a network does, in this process."""
    from relspace.rows.formats.npy import NpyRows

    read = NpyRows.read

    def wait_and_read(source: NpyRows, start: int, stop: int) -> torch.Tensor:
        rows = read(source, start, stop)
        time.sleep(rows.nbytes / bytes_per_second)
        return rows

    switched: Any = NpyRows
    switched.read = wait_and_read


def run(way: str, source: Path, budget: str, bytes_per_second: float | None) -> dict[str, float]:
    """Transform a source in this process, as the command does."""
    from relspace.cli import commands

    space, out = source.parent / "space.safetensors", source.parent / f"out-{os.getpid()}.zarr"
    switch_off(way)
    if bytes_per_second is not None:
        slow_down(bytes_per_second)
    arguments = ["transform", str(space), "tokens", str(source), "-o", str(out)]
    before = reset_peak_memory()
    start, processor = time.perf_counter(), time.process_time()
    commands([*arguments, "--memory-budget", budget, "--json"], standalone_mode=False)
    return {
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - processor,
        "peak_bytes": peak_of_process() - before,
    }


def measure(
    way: str, source: Path, budget: str, bytes_per_second: float | None
) -> dict[str, float]:
    """Run one way in a process of its own."""
    drop_pages(source)
    command = [sys.executable, str(Path(__file__).resolve()), "--run", way, str(source)]
    if bytes_per_second is not None:
        command += ["--bytes-per-second", str(bytes_per_second)]
    done = subprocess.run([*command, "--budget", budget], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{way} failed:\n{done.stderr}")
    for left in source.parent.glob("out-*.zarr"):
        for file in files_of(left):
            file.unlink()
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main() -> int:
    """Measure, print and write; or be the process of one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--landmarks", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", default="1GiB")
    parser.add_argument("--run", nargs=2, metavar=("WAY", "SOURCE"), help="one run, as JSON")
    parser.add_argument("--bytes-per-second", type=float, help="of that run, where files are slow")
    parser.add_argument("--folder", type=Path, help="where to write, by default a temporary one")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results/reading_ahead.json")
    options = parser.parse_args()
    if options.run:
        way, source = options.run
        found = run(way, Path(source), options.budget, options.bytes_per_second)
        print(json.dumps(found))
        return 0
    machine = describe_machine(torch.get_num_threads())
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(
        f"{options.items:,} x {options.features} float32 over {options.landmarks} landmarks, "
        f"a budget of {options.budget}"
    )
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        make_sources(folder, options.items, options.features, options.landmarks)
        for name, rate in SOURCES:
            runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
            for turn in range(options.rounds):
                for way in WAYS[turn % len(WAYS) :] + WAYS[: turn % len(WAYS)]:
                    runs[way].append(measure(way, folder / name, options.budget, rate))
            taken = sum(file.stat().st_size for file in files_of(folder / name))
            speed = "" if rate is None else f", at {rate / 1e6:.0f} MB/s"
            print(f"{name}, {taken / 2**30:.2f} GiB{speed}")
            base = [one["seconds"] for one in runs["in turn"]]
            for way in WAYS:
                seconds = [one["seconds"] for one in runs[way]]
                processor = statistics.median(one["processor_seconds"] for one in runs[way])
                peak = max(one["peak_bytes"] for one in runs[way])
                ratio = Ratio.of(seconds, base)
                print(
                    f"  {way:<15}{statistics.median(seconds):7.2f} s  processor {processor:6.2f} s"
                    f"  peak {peak / 2**20:5.0f} MiB  over in turn {ratio}",
                    flush=True,
                )
                what = {"source": name, "bytes_per_second": rate, "way": way, "bytes": taken}
                rows.append({**what, "runs": runs[way], "ratio": ratio.to_dict()})
    write_json(options.output, {"machine": machine, "budget": options.budget, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
