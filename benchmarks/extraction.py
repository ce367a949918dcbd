"""What extraction adds to bare forward passes, and whether memory grows with the images."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import relspace
from _bars import Bar, add_check, conclude
from _measure import Ratio, describe_machine, write_json
from relspace.features import FeatureModel, open_images

HERE = Path(__file__).resolve().parent
MAX_ADDED, MAX_GROWTH_MIB = 0.10, 64
PHOTO = (480, 640)


def main() -> int:
    """Measure, print and write; with ``--check`` the exit status says if the bars were met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=128, help="photographs for the time")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small-images", type=int, nargs="+", default=[2500, 5000, 10_000])
    parser.add_argument(
        "--only",
        choices=["time", "memory"],
        help="one of the two questions; the other's answer stays",
    )
    parser.add_argument("--quick", action="store_true", help="few images, nothing written")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results/extraction.json")
    add_check(parser)
    parser.add_argument("--peak-of", nargs=2, metavar=("FOLDER", "N"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        print(peak_of_extraction(Path(options.peak_of[0]), int(options.peak_of[1])))
        return 0
    if options.quick:
        options.images, options.rounds, options.small_images = 16, 1, [200, 400]

    machine = describe_machine(torch.get_num_threads())
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    bars: list[Bar] = []
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if options.only != "memory":
            found["time"] = time_extraction(place, options.images, options.batch, options.rounds)
            added = found["time"]["ratio"]["median"] - 1
            bars.append(Bar("time added", added, MAX_ADDED))
        if options.only != "time":
            found["memory"] = measure_memory(place, options.small_images)
            growth = found["memory"]["growth_mib"]
            bars.append(Bar("MiB of growth", growth, MAX_GROWTH_MIB))
    if not options.quick:
        judged = [bar.to_dict() for bar in bars]
        if options.only and options.output.exists():
            # The answer to the other question stays, on whatever machine it was found.
            before = json.loads(options.output.read_text())
            new = {bar.what for bar in bars}
            judged = [bar for bar in before["bars"] if bar["what"] not in new] + judged
            found = {**before, **found}
        write_json(options.output, {**found, "machine": machine, "bars": judged})
    return conclude(bars, check=options.check)


def time_extraction(place: Path, n_images: int, batch: int, rounds: int) -> dict[str, Any]:
    """Time bare forward passes and whole extractions in turns.

    The passes get batches that are in memory already; the extraction decodes JPEG files, runs the
    same network on them in the same batches, and stores all of its 13 layers.
    """
    photos = place / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for i in range(n_images):
        coarse = rng.integers(0, 255, size=(24, 32, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(PHOTO[::-1]).save(photos / f"{i:05d}.jpg", quality=90)
    model = save_and_load(
        place / "large", hidden_size=768, num_attention_heads=12, intermediate_size=3072
    )
    collection = open_images(photos)
    inputs = [model.prepare(collection.load(i))[0] for i in range(n_images)]
    batches = [torch.from_numpy(np.stack(inputs[i : i + batch])) for i in range(0, n_images, batch)]

    def bare() -> None:
        with torch.inference_mode():
            for one in batches:
                model.module(one)

    def extraction() -> None:
        shutil.rmtree(place / "store.zarr", ignore_errors=True)
        relspace.extract(model, photos, place / "store.zarr", batch_size=batch)

    seconds: dict[str, list[float]] = {"bare": [], "extraction": []}
    processor: dict[str, list[float]] = {"bare": [], "extraction": []}
    calls = {"bare": bare, "extraction": extraction}
    bare()
    for turn in range(rounds):
        for name in sorted(calls, reverse=bool(turn % 2)):
            start, used = time.perf_counter(), time.process_time()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - used)
    ratio = Ratio.of(seconds["extraction"], seconds["bare"])
    of_processor = Ratio.of(processor["extraction"], processor["bare"])
    stored = sum(path.stat().st_size for path in (place / "store.zarr").rglob("*"))
    print(
        f"ViT-B/16, {n_images} JPEGs of {PHOTO[1]} x {PHOTO[0]}, batches of {batch}, 13 layers: "
        f"bare {min(seconds['bare']):.2f} s, extraction {min(seconds['extraction']):.2f} s, "
        f"ratio {ratio}, of processor time {of_processor}; {stored / 2**20:.0f} MiB stored"
    )
    return {
        "n_images": n_images,
        "batch": batch,
        "seconds": seconds,
        "ratio": ratio.to_dict(),
        "processor_ratio": of_processor.to_dict(),
    }


def measure_memory(place: Path, numbers: list[int]) -> dict[str, Any]:
    """Extract few and many small images, each in a process of its own, and compare the peaks."""
    small = place / "small"
    small.mkdir()
    rng = np.random.default_rng(0)
    for i in range(max(numbers)):
        pixels = rng.integers(0, 255, size=(32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(small / f"{i:06d}.png")
    save_and_load(
        place / "tiny",
        hidden_size=192,
        num_attention_heads=3,
        num_hidden_layers=4,
        intermediate_size=384,
        image_size=32,
        patch_size=4,
    )
    peaks = {}
    for n in numbers:
        command = [sys.executable, __file__, "--peak-of", str(place), str(n)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks[n] = int(done.stdout.split()[-1]) / 2**20
        print(f"{n} images of 32 x 32, 5 layers: peak of the process {peaks[n]:.0f} MiB")
    growth = peaks[numbers[-1]] - peaks[numbers[0]]
    return {"peaks_mib": {str(n): peak for n, peak in peaks.items()}, "growth_mib": growth}


def peak_of_extraction(place: Path, n: int) -> int:
    """Return the most memory that this process held, in bytes, after extracting n images."""
    model = relspace.load_model(place / "tiny", device="cpu")
    paths = sorted((place / "small").iterdir())[:n]
    relspace.extract(model, paths, place / f"store_{n}.zarr", batch_size=64)
    shutil.rmtree(place / f"store_{n}.zarr")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM; peak memory is measured on Linux only")


def save_and_load(folder: Path, **sizes: Any) -> FeatureModel:
    """Save a vision transformer with random weights, and load it as any model is."""
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    config: Any = ViTConfig(**sizes)
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    side = int(config.image_size)
    processor = {"size": {"height": side, "width": side}, "resample": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return relspace.load_model(folder, device="cpu")


if __name__ == "__main__":
    sys.exit(main())
