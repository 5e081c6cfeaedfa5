#!/usr/bin/env python
"""Seconds of an iteration and of a training as the preflight tells them, against trainings of the same settings.

Both run in turns, each in processes of its own, by the commands of the workflow: `bin/measure.py` on the raw data set,
and `bin/train.py` on what `bin/prepare.py` made of it, with a patch of labels in each case of the pool. A training
tells the time of its epochs, so what is set beside it is an epoch (iterations, and validation iterations), and the
command as a whole. Medians of as many tries for both; the machine should have nothing else to do.

    bench/preflight.py                              the phantom, a small network, on the CPU
    bench/preflight.py --device cuda --planned      the network that nnU-Net plans, on a GPU
    bench/preflight.py --input /data/mydata --planned --device cuda
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "tests")]

from plan import make_row, write_plan  # noqa: E402

from nnactive_nf.core.dataset import Dataset  # noqa: E402
from nnactive_nf.core.geometry import box_around, patch_size_in  # noqa: E402
from nnactive_nf.core.labels import Labels, read_labels, write_labels  # noqa: E402
from nnactive_nf.core.measured import read_measured  # noqa: E402
from nnactive_nf.core.training_plans import validation_iterations  # noqa: E402
from nnactive_nf.phantom.folder import write_phantom  # noqa: E402

SMALL = {"train_patch_size": "16,32,32", "features": 8, "batch_size": 2}
LABELLED = (8, 16, 16)  # voxels of a patch of labels


def command(program, threads, /, **options):
    """Run a command of the workflow; the seconds that it took."""
    words = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    limits = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS")}
    begin = time.perf_counter()
    subprocess.run([sys.executable, ROOT / "bin" / f"{program}.py", *words], check=True, env={**os.environ, **limits},
                   stdout=subprocess.DEVNULL)  # fmt: skip
    return time.perf_counter() - begin


def some_labels(folder):
    """A file of labels: a patch in each case of the pool, around a voxel that is no background."""
    dataset = Dataset.open(folder / "prepared")
    oracle = read_labels(folder / "oracle.h5", "oracle", dataset.shapes)
    rng = np.random.default_rng(3)
    masks = {}
    for case in dataset.pool:
        truth = oracle.masks[case]
        box = box_around(rng.choice(np.argwhere(truth > 0)), patch_size_in(LABELLED, truth.shape), truth.shape)
        masks[case] = np.full_like(truth, oracle.classes.ignore_value)
        masks[case][box.slices] = truth[box.slices]
    write_labels(folder / "labels.h5", Labels(dataset.name, "node", 0, oracle.classes, masks))
    return folder / "labels.h5"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, help="raw folder; the phantom where not given")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--planned", action="store_true", help="the network that nnU-Net plans, not a small one")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--tries", type=int, default=2)
    options = parser.parse_args()
    network = {} if options.planned else SMALL
    schedule = {"epochs": options.epochs, "iterations": options.iterations}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = options.input or folder / "phantom"
        if options.input is None:
            write_phantom(raw, seed=1, cases=12)
        command("prepare", 1, input=raw, name="one", folds=2, start_size=8, out=folder / "prepared",
                oracle=folder / "oracle.h5", reference=folder / "reference.h5")  # fmt: skip
        write_plan(folder / "plan.json", [make_row("random", folder=str(raw), **network, **schedule)])
        labels = some_labels(folder)
        epochs, totals = {"told": [], "took": []}, {"told": [], "took": []}
        for number in range(options.tries):
            command("measure", options.threads, plan=folder / "plan.json", raw=f"{raw}=one", device=options.device,
                    threads=options.threads, out=folder / "preflight.json")  # fmt: skip
            (told,) = read_measured(folder / "preflight.json", "preflight.json").trainings
            checks = validation_iterations(options.iterations) * told.validation_seconds
            epochs["told"].append(options.iterations * told.iteration_seconds + checks)
            totals["told"].append(60 * told.minutes(**schedule))
            out = folder / f"fold_{number}"
            totals["took"].append(command(
                "train", options.threads, prepared=folder / "prepared", labels=labels, node="node", seed=1, cycle=0,
                fold=0, folds=2, device=options.device, threads=options.threads, store=folder / f"store_{number}",
                code="code", out=out, **schedule, **network,
            ))  # fmt: skip
            epochs["took"].append(json.loads((out / "training.json").read_text())["seconds"] / options.epochs)
    print(f"{told.device_name}: {told.iterations} iterations after {told.warm_up}, {told.iteration_seconds:.3g} s each")
    print(f"{'':32}{'told s':>10}{'took s':>10}{'ratio':>8}")
    for what, times in {"an epoch": epochs, "the command": totals}.items():
        pair = [median(times[kind]) for kind in ("told", "took")]
        print(f"{what:32}{pair[0]:10.2f}{pair[1]:10.2f}{pair[0] / pair[1]:8.2f}")


if __name__ == "__main__":
    main()
