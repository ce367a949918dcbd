"""How large is an interactive report, and how fast does it answer the pointer?

Needs Chromium and chromedriver. The content is random, which compresses least, so that sizes are
upper bounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from _bars import Bar, add_check, conclude
from _browser import open_browser, open_page, why_no_browser
from _measure import describe_machine, write_json
from relspace.reports.page import ReportData, ReportImage, ReportLayer, ReportModel, render_report
from relspace.reports.patches import MAX_VECTOR_BYTES
from relspace.reports.quantize import quantize_rows

HERE = Path(__file__).resolve().parent
SIZE_BAR_MB = 15.0
HOVER_BAR_MS = 50.0
COMPONENTS = 48
SEGMENT_COUNTS = (2, 4, 6, 8, 12, 16)
# name -> (images, models, layers, rows, columns)
CASES = {
    "12 layers of ViT/14 grids at 224 pixels": (16, 2, 12, 16, 16),
    "12 layers, as many tokens as a page takes": (16, 2, 12, 26, 26),
    "12 layers, 50,688 tokens, all layers in view": (16, 2, 12, 11, 12),
    "1 layer, 51,200 tokens": (16, 2, 1, 40, 40),
}

# Moves the pointer over patches and waits each time until the frame has its pixels: reading one
# back makes the browser finish drawing. The wait for the frame is part of the time.
MOVE = """
const done = arguments[arguments.length - 1];
const [moves, zoom] = [arguments[0], arguments[1]];
const canvases = [...document.querySelectorAll(".model .strip > canvas")];
const finish = () => canvases.forEach((one) => one.getContext("2d").getImageData(0, 0, 1, 1));
const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
(async () => {
  const whole = [], work = [];
  finish();
  for (let i = 0; i < moves; i += 1) {
    await frame();
    const canvas = canvases[i % Math.min(2, canvases.length)];
    const { left, top, width, height } = canvas.getBoundingClientRect();
    const start = performance.now();
    canvas.dispatchEvent(new PointerEvent("pointermove", {
      bubbles: true,
      pointerType: "mouse",
      clientX: left + ((i * 37.3) % (0.9 * zoom)) + 2,
      clientY: top + ((i * 17.9) % (height - 4)) + 2,
    }));
    await frame();
    finish();
    whole.push(performance.now() - start);
    work.push(performance.getEntriesByName("relspace:paint").at(-1).duration);
  }
  done([whole, work]);
})();
"""


def random_report(case: tuple[int, int, int, int, int]) -> ReportData:
    """Make a report of random patches, colours, segments and photographs."""
    n_images, n_models, n_layers, rows, columns = case
    rng = np.random.default_rng(0)
    n = n_images * rows * columns
    generator = torch.Generator().manual_seed(0)
    blocks = [
        torch.nn.functional.normalize(torch.randn(n, 256, generator=generator), dim=1)
        for _ in range(n_models * n_layers)
    ]
    n_components = min(COMPONENTS, MAX_VECTOR_BYTES // (n * len(blocks)))
    vectors, quantization = quantize_rows(blocks, n_components)
    grid = (n_images, rows, columns)

    def layer(number: int) -> ReportLayer:
        colors = rng.integers(0, 256, (3, *grid, 3)).astype(np.uint8)
        return ReportLayer(
            f"layer {number % n_layers}",
            vectors[number].reshape(*grid, n_components),
            dict(zip(("joint", "per model", "before"), colors, strict=True)),
            {k: rng.integers(0, k, grid).astype(np.uint8) for k in SEGMENT_COUNTS},
        )

    coarse = rng.integers(0, 256, (n_images, 32, 32, 3)).astype(np.uint8)
    photographs = coarse.repeat(8, axis=1).repeat(8, axis=2)
    return ReportData(
        title="Random",
        images=[ReportImage(f"image {i}", one) for i, one in enumerate(photographs)],
        models=[
            ReportModel(f"model {m}", [layer(m * n_layers + number) for number in range(n_layers)])
            for m in range(n_models)
        ],
        quantization=quantization,
    )


def measure_case(case: tuple[int, int, int, int, int], moves: int) -> dict[str, Any]:
    """Render one report, open it, and time pointer moves with every strip in view."""
    data = random_report(case)
    page = render_report(data)
    n_rows = case[1] * case[2]
    with TemporaryDirectory() as folder, open_browser(2400, 1100 + 110 * n_rows) as driver:
        path = Path(folder) / "report.html"
        path.write_text(page)
        open_page(driver, path)
        driver.set_script_timeout(120)
        driver.execute_script(
            "document.querySelector('input[name=view][value=all]')?.click();"
            "const zoom = document.querySelector('[data-part=zoom]');"
            "zoom.value = 100; zoom.dispatchEvent(new Event('input'));"
        )
        whole, work = driver.execute_async_script(MOVE, moves, 100)
        version = driver.capabilities["browserVersion"]
    return {
        "megabytes": len(page.encode()) / 1e6,
        "tokens": data.n_tokens,
        "bytes_per_token": len(quantization_scales(data)),
        "milliseconds": {
            "event_to_pixels": spread(whole[moves // 5 :]),
            "script": spread(work[moves // 5 :]),
        },
        "chromium": version,
    }


def quantization_scales(data: ReportData) -> Any:
    """Return the steps of a report that has patches."""
    assert data.quantization is not None
    return data.quantization.scales


def spread(values: list[float]) -> dict[str, float]:
    """Return the median, the 95th percentile and the largest."""
    return {
        "median": statistics.median(values),
        "percentile_95": float(np.quantile(values, 0.95)),
        "largest": max(values),
    }


def main() -> int:
    """Measure, print and write; with ``--check`` the exit status says if the bars were met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="few moves, nothing written")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "report.json")
    add_check(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.moves = 20
    reason = why_no_browser()
    if reason is not None:
        raise SystemExit(f"no browser to measure in: {reason}")
    cases = {name: measure_case(case, arguments.moves) for name, case in CASES.items()}
    print(f"{'':<46}{'MB':>6}{'tokens':>9}{'ms a move':>11}{'95 %':>7}{'script':>8}")
    for name, found in cases.items():
        times = found["milliseconds"]
        print(
            f"{name:<46}{found['megabytes']:>6.1f}{found['tokens']:>9,}"
            f"{times['event_to_pixels']['median']:>11.1f}"
            f"{times['event_to_pixels']['percentile_95']:>7.1f}{times['script']['median']:>8.1f}"
        )
    largest = max(found["megabytes"] for found in cases.values())
    slowest = max(
        found["milliseconds"]["event_to_pixels"]["median"]
        for found in cases.values()
        if found["tokens"] < 60_000
    )
    bars = [
        Bar("MB of the largest page", largest, SIZE_BAR_MB),
        Bar("ms of a move over 50,000 tokens", slowest, HOVER_BAR_MS),
    ]
    if not arguments.quick:
        content: dict[str, Any] = {"machine": describe_machine(1), "cases": cases}
        content["bars"] = [bar.to_dict() for bar in bars]
        write_json(arguments.output, content)
    return conclude(bars, check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
