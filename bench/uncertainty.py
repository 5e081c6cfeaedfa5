#!/usr/bin/env python
"""Entropies of 5 folds x 16 classes on 96x256x256: streamed fold by fold, beside stacked, in the same run.

Prints the ratio of the times, the anonymous memory that each way adds at its peak (in volumes of one class), and the
largest difference of the results. Wanted: ratio 1 or more, at most C + 3 volumes streamed, difference 1e-6 or less.

    python bench/uncertainty.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bin"))

from nnactive_nf.predict.entropy import accumulate, predictive_entropy

FOLDS, CLASSES, SHAPE = 5, 16, (96, 256, 256)
VOLUME_BYTES = int(np.prod(SHAPE)) * 4
ROUNDS = 3


def make_folds(folder: Path) -> None:
    """Write the folds' probabilities; they are read through memory maps, so they do not count as ours."""
    generator = torch.Generator().manual_seed(0)
    for fold in range(FOLDS):
        probability = torch.softmax(3 * torch.randn((CLASSES, *SHAPE), generator=generator), dim=0)
        np.save(folder / f"fold_{fold}.npy", probability.numpy())


def fold(folder: Path, number: int) -> torch.Tensor:
    return torch.from_numpy(np.load(folder / f"fold_{number}.npy", mmap_mode="c"))


def streamed(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    mean, expected = accumulate(fold(folder, number) for number in range(FOLDS)).finish()
    return predictive_entropy(mean), expected


def stacked(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    folds = torch.stack([fold(folder, number) for number in range(FOLDS)])
    predictive = torch.special.entr(folds.mean(dim=0)).sum(dim=0)
    expected = torch.special.entr(folds).sum(dim=1).mean(dim=0)
    return predictive, expected


def anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon in /proc/self/status")


def peak_of(work: Callable[[], object]) -> int:
    """Anonymous memory that `work` adds at its peak, looked at every 2 ms."""
    before, peak, done = anonymous_bytes(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return peak - before


def measure(way: str, folder: Path) -> None:
    """In a process of its own: the best time of some rounds, then the peak, then the result."""
    torch.set_num_threads(1)
    work = {"streamed": streamed, "stacked": stacked}[way]
    work(folder)  # the folds are in the page cache from here on
    seconds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        work(folder)
        seconds.append(time.perf_counter() - begin)
    peak = peak_of(lambda: work(folder))
    torch.save(work(folder), folder / f"{way}.pt")
    print(json.dumps({"seconds": min(seconds), "volumes": peak / VOLUME_BYTES}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure[0], Path(arguments.measure[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_folds(folder)
        found = {}
        for way in ("streamed", "stacked"):
            command = [sys.executable, __file__, "--measure", way, name]
            found[way] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(f"{way:9s} {found[way]['seconds']:6.2f} s  {found[way]['volumes']:6.1f} volumes at the peak")
        results = [torch.load(folder / f"{way}.pt", weights_only=True) for way in ("streamed", "stacked")]
        difference = max(float((a - b).abs().max()) for a, b in zip(*results, strict=True))
    ratio = found["stacked"]["seconds"] / found["streamed"]["seconds"]
    print(f"ratio     {ratio:6.2f}  (stacked / streamed, wanted 1 or more)")
    print(f"volumes   {found['streamed']['volumes']:6.1f}  (wanted {CLASSES + 3} or less)")
    print(f"largest difference {difference:.1e} (wanted 1e-6 or less)")


if __name__ == "__main__":
    main()
