#!/usr/bin/env python
"""Entropies of 5 folds x 16 classes on 96x256x256: streamed fold by fold, beside stacked, in the same run.

Both ways get the folds as the network hands them over, one after the other, each in memory of its own, and all of it is
counted: anonymous memory added at the peak, in volumes of one class. Stacked is the plain way: one array for all folds,
filled as they come, then the entropies over it. Times are of the ways alone, without the making of folds.

A third line is the whole of what PREDICT does for one image: two real (untrained) networks with windows of 16x64x64,
all maps but those that keep every fold, written to a file. What the network takes for its windows is measured before on
a few of them, and the image is left out.

Wanted: ratio 1 or more; at most 2 C + 4 volumes streamed (one fold, and C + 4 beside it), and in the whole task;
difference 1e-6 or less.

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
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from nnactive_nf.core.ensemble import Ensemble, probability_in_place
from nnactive_nf.core.uncertainty import create_uncertainty, write_case
from nnactive_nf.predict.entropy import EnsembleAccumulator, predictive_entropy
from nnactive_nf.predict.run import case_maps

FOLDS, CLASSES, SHAPE = 5, 16, (96, 256, 256)
WINDOW, FEATURES = (16, 64, 64), 4
MAPS = ("predictive_entropy", "expected_entropy", "prediction", "mean_probability")
VOLUME_BYTES = int(np.prod(SHAPE)) * 4
ROUNDS = 3

Entropies = tuple[torch.Tensor, torch.Tensor]


class Clock:
    """Adds up the seconds of the blocks that it is entered for."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._begin = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._begin


def fold(number: int) -> torch.Tensor:
    """A fold's probabilities `[C, z, y, x]`, made in their own memory as the network's are."""
    values = torch.randn((CLASSES, *SHAPE), generator=torch.Generator().manual_seed(number)).mul_(3)
    probability_in_place(values, regions=False)
    return values


def streamed(clock: Clock) -> Entropies:
    accumulator = EnsembleAccumulator()
    for number in range(FOLDS):
        probability = fold(number)
        with clock:
            accumulator.add(probability)
        del probability
    with clock:
        mean, expected = accumulator.finish()
        return predictive_entropy(mean), expected


def stacked(clock: Clock) -> Entropies:
    folds = torch.empty((FOLDS, CLASSES, *SHAPE))
    for number in range(FOLDS):
        probability = fold(number)
        with clock:
            folds[number] = probability
        del probability
    with clock:
        predictive = torch.special.entr(folds.mean(dim=0)).sum(dim=0)
        return predictive, torch.special.entr(folds).sum(dim=1).mean(dim=0)


def whole_task(folder: Path) -> dict[str, float]:
    """Peaks of what PREDICT does for one image, and before it of the network on its first windows."""
    import tiny

    dataset = tiny.prepared(folder / "prepared", {"image": SHAPE}, classes=tiny.classes(CLASSES))
    checkpoints = tiny.checkpoints(folder, dataset, 2, patch=WINDOW, features=FEATURES)
    ensemble = Ensemble(checkpoints, torch.device("cpu"), tile_step=0.75, mirroring=False)
    windows = np.zeros((1, *WINDOW[:2], 4 * WINDOW[2]), dtype=np.float32)

    def work() -> None:
        with create_uncertainty(
            folder / "maps.h5", dataset="tiny", node="n", cycle=0, folds=2, classes=CLASSES, maps=MAPS, checkpoints=[]
        ) as file:
            write_case(file, "image", case_maps(ensemble, dataset, "image", MAPS))

    network = peak_of(lambda: ensemble.probabilities(0, windows))
    return {"network": network / VOLUME_BYTES, "volumes": peak_of(work) / VOLUME_BYTES - 1}  # less the image


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


def measure(way: str, folder: Path) -> dict[str, float]:
    """In a process of its own: the peak of the first round, the best time of all rounds, the result in a file."""
    torch.set_num_threads(1)
    if way == "task":
        return whole_task(folder)
    work = {"streamed": streamed, "stacked": stacked}[way]
    clocks = [Clock() for _ in range(ROUNDS)]
    peak = peak_of(lambda: work(clocks[0]))
    results = [work(clock) for clock in clocks[1:]]
    torch.save(results[-1], folder / f"{way}.pt")
    return {"seconds": min(clock.seconds for clock in clocks), "volumes": peak / VOLUME_BYTES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        found = measure(arguments.measure[0], Path(arguments.measure[1]))
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as name:
        found = {}
        for way in ("streamed", "stacked", "task"):
            command = [sys.executable, __file__, "--measure", way, name]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[way] = json.loads(done.stdout.splitlines()[-1])
            seconds = f"{found[way]['seconds']:6.2f} s" if "seconds" in found[way] else " " * 8
            print(f"{way:9s} {seconds}  {found[way]['volumes']:6.1f} volumes at the peak", flush=True)
        results = [torch.load(Path(name) / f"{way}.pt", weights_only=True) for way in ("streamed", "stacked")]
        difference = max(float((a - b).abs().max()) for a, b in zip(*results, strict=True))
    ratio = found["stacked"]["seconds"] / found["streamed"]["seconds"]
    share = found["stacked"]["volumes"] / found["streamed"]["volumes"]
    print(f"ratio of times    {ratio:6.2f}  (stacked / streamed, wanted 1 or more)")
    print(f"ratio of memory   {share:6.2f}  (stacked / streamed)")
    print(f"volumes streamed  {found['streamed']['volumes']:6.1f}  (wanted {2 * CLASSES + 4} or less)")
    task = found["task"]
    print(f"volumes of a task {task['volumes']:6.1f}  (the same, beside {task['network']:.1f} of the network)")
    print(f"largest difference {difference:.1e} (wanted 1e-6 or less)")


if __name__ == "__main__":
    main()
