"""Times contestants, each in a process of its own, in turns, and reads their peak memory."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

Call = Callable[[], Any]

_SECONDS_TO_SETTLE, _SECONDS_OF_A_TURN = 0.25, 0.1


@dataclass(frozen=True)
class Ratio:
    """How one contestant's time relates to another's, over rounds of the same run."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
        """Divide round by round, so that what slows a whole round down cancels."""
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        return cls(statistics.median(ratios), min(ratios), max(ratios))

    def to_dict(self) -> dict[str, float]:
        """Return the three values by name."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


class Worker:
    """A contestant's process, which runs its call whenever it is asked to, and waits otherwise."""

    def __init__(
        self, python: Path, script: Path, contestant: str, case: Mapping[str, Any]
    ) -> None:
        # -E: a PYTHONPATH could put this repository's ncut_pytorch before the peer's.
        self._contestant = contestant
        command = [str(python), "-E", str(script), "--serve", contestant, json.dumps(case)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.versions: dict[str, str] = self._read()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def seconds(self) -> float:
        """Run the call, a short one again and again, and return how long one took."""
        return float(self._ask("seconds"))

    def peak(self) -> dict[str, Any]:
        """Run the call once; return its peak memory over the input and its result's, in bytes."""
        return dict(self._ask("peak"))

    def _ask(self, what: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the process of {self._contestant} ended early")
        return json.loads(line)


def serve(call: Call, versions: Mapping[str, str], describe: Callable[[Any], Any]) -> None:
    """Answer a parent's requests on standard input until it closes; the other end of `Worker`."""
    _answer(dict(versions))
    for line in sys.stdin:
        if line.strip() == "seconds":
            # Threads of the one before go on spinning for a while, waiting for work.
            time.sleep(_SECONDS_TO_SETTLE)
            taken: list[float] = []
            while not taken or sum(taken) < _SECONDS_OF_A_TURN:
                start = time.perf_counter()
                result = call()
                taken.append(time.perf_counter() - start)
            _answer(statistics.median(taken))
        else:
            before = reset_peak_memory()
            result = call()
            peak = _memory("VmHWM") - before
            _answer({"peak_bytes": peak, "result_bytes": result.nbytes, **describe(result)})
        del result


def interleave(workers: Mapping[str, Worker], rounds: int) -> dict[str, list[float]]:
    """Time every contestant once per round, each round starting with another one."""
    names = list(workers)
    for name in names:
        workers[name].seconds()  # the first call also loads code and starts threads
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(workers[name].seconds())
    return times


def describe_machine(threads: int) -> dict[str, Any]:
    """Describe what the numbers depend on, without names or paths of the machine."""
    cpu_lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = {line.split(":", 1)[1].strip() for line in cpu_lines if line.startswith("model name")}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": " / ".join(sorted(models)),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gib": round(memory / 2**30),
        "python": platform.python_version(),
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a result so that an interrupted run leaves the earlier one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)


def peak_of_process() -> int:
    """The most that the process has held since its mark was set, in bytes."""
    return _memory("VmHWM")


def peak_bytes(call: Call) -> int:
    """Run the call once and return its peak memory over what was held before, in bytes."""
    before = reset_peak_memory()
    result = call()
    peak = _memory("VmHWM") - before
    del result
    return peak


def _answer(content: Any) -> None:
    print(json.dumps(content), flush=True)


def reset_peak_memory() -> int:
    """Set the process's high-water mark to what it holds now, and return that in bytes.

    `ru_maxrss` would not do: imports may have needed more than what is held now, and a child
    starts with the mark of the process that forked it.
    """
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}; peak memory is measured on Linux only")
