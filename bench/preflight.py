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

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "tests")]

from patch_labels import write_patch_labels  # noqa: E402
from plan import make_row, write_plan  # noqa: E402
from small_network import data_and_network, training_parser  # noqa: E402

from nnactive_nf.core.measured import read_measured  # noqa: E402
from nnactive_nf.core.training_plans import validation_iterations  # noqa: E402


def command(program, threads, /, **options):
    """Run a command of the workflow; the seconds that it took."""
    words = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    limits = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS")}
    begin = time.perf_counter()
    subprocess.run([sys.executable, ROOT / "bin" / f"{program}.py", *words], check=True, env={**os.environ, **limits},
                   stdout=subprocess.DEVNULL)  # fmt: skip
    return time.perf_counter() - begin


def main():
    parser = training_parser(__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--tries", type=int, default=2)
    options = parser.parse_args()
    schedule = {"epochs": options.epochs, "iterations": options.iterations}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw, network = data_and_network(options, folder)
        command("prepare", 1, input=raw, name="one", folds=2, start_size=8, out=folder / "prepared",
                oracle=folder / "oracle.h5", reference=folder / "reference.h5")  # fmt: skip
        write_plan(folder / "plan.json", [make_row("random", folder=str(raw), **network, **schedule)])
        labels = write_patch_labels(folder, folder / "labels.h5")
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
