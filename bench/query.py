#!/usr/bin/env python
"""Time and peak memory of a query in one image: patch means at all start positions and the choice of 20 patches.

Ours (running sums, masked argmax) stands beside the plain way (convolution by FFT, a list of all positions, a sort, a
walk down the list). Each is measured in a process of its own, on one core, in the same run. Times are seconds that the
core worked for it (user and system), so that other work on the machine counts less. Memory is the peak of the resident
set while it works, less what the process held before (for ours, the arrays counted if that is more), the float32 map
included.

    bench/query.py            all sizes; the plain way needs about 10 GB for the largest
    bench/query.py --quick    the two smaller sizes
"""

import argparse
import os
import sys
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

PATCHES = 20
SIZES = [((40, 56, 40), 20), ((128, 256, 256), 64), ((256, 512, 512), 64)]
ROOT = Path(__file__).resolve().parent.parent


def ours(values, patch, stride):
    """As QUERY does it."""
    from nnactive_nf.query.grid import Grid, Scores, planes_of

    grid = Grid.of(values.shape, (patch,) * 3, (stride,) * 3)
    return [(score, box.start_zyx) for box, score in Scores.of_means(planes_of(values), grid).take(PATCHES)]


def plain(values, patch, stride):
    """The plain way: convolve, list all positions with their scores, sort, walk down."""
    import numpy as np
    from scipy.signal import fftconvolve

    means = fftconvolve(values.astype(np.float64), np.ones((patch,) * 3) / patch**3, mode="valid")
    axes = [sorted({*range(0, n, stride), n - 1}) for n in means.shape]
    positions = [(-float(means[z, y, x]), z, y, x) for z in axes[0] for y in axes[1] for x in axes[2]]
    positions.sort()
    taken = []
    for score, *start in positions:
        if all(any(abs(a - b) >= patch for a, b in zip(start, other, strict=True)) for _, other in taken):
            taken.append((-score, tuple(start)))
            if len(taken) == PATCHES:
                break
    return taken


def field(shape):
    """A map like an entropy: smooth blobs on a background near 0, float32."""
    import numpy as np

    rng = np.random.default_rng(1)
    values = np.zeros(shape, dtype=np.float32)
    grids = [np.arange(n, dtype=np.float32) for n in shape]
    for _ in range(60):
        centre, width = [rng.uniform(0, n) for n in shape], rng.uniform(3, 12)
        z, y, x = (np.exp(-(((g - c) / width) ** 2)) for g, c in zip(grids, centre, strict=True))
        values += np.float32(rng.uniform(0.1, 0.7)) * z[:, None, None] * y[:, None] * x
    return values


def status(name):
    """A line of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def measure(way, shape, patch, stride, repeats):
    """In a process of its own: seconds (the best of `repeats`) and peak memory."""
    sys.path.insert(0, str(ROOT / "bin"))
    small = field((8, 8, 8))
    {"ours": ours, "plain": plain}[way](small, 2, 1)  # imports
    values = field(shape)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        found = {"ours": ours, "plain": plain}[way](values, patch, stride)
        seconds.append(time.process_time() - start)
    peak = status("VmHWM") - before
    if way == "ours":  # few large arrays, which can be counted: pages used before hide nothing
        tracemalloc.start()
        ours(values, patch, stride)
        peak = max(peak, tracemalloc.get_traced_memory()[1])
    return {"seconds": min(seconds), "bytes": peak + values.nbytes, "found": found}


def in_child(*arguments):
    """`measure` in a new interpreter; `None` where it was ended for want of memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        try:
            return child.submit(measure, *arguments).result()
        except (BrokenProcessPool, MemoryError):
            return None


def main():
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core, for the children too
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="leave out the largest size")
    sizes = SIZES[:2] if parser.parse_args().quick else SIZES
    head = f"{'volume':>12} {'patch':>5} {'stride':>6} {'ours':>9} {'plain':>9} {'ratio':>7} {'ours':>12} {'plain':>12}"
    print(f"{head}  same")
    print(f"{'':>25} {'s':>9} {'s':>9} {'':>7} {'x f32 map':>12} {'x f32 map':>12}", flush=True)
    for shape, patch in sizes:
        size = 4 * shape[0] * shape[1] * shape[2]
        for stride in (1, 8):
            a = in_child("ours", shape, patch, stride, 3)
            b = in_child("plain", shape, patch, stride, 1)
            line = f"{'x'.join(map(str, shape)):>12} {patch:>5} {stride:>6} {a['seconds']:>9.4f} "
            if b is None:
                print(line + "    (the plain way ran out of memory)" + f" {a['bytes'] / size:>12.2f}", flush=True)
                continue
            line += f"{b['seconds']:>9.3f} {b['seconds'] / a['seconds']:>7.1f} {a['bytes'] / size:>12.2f} "
            same = sum(x[1] == y[1] for x, y in zip(a["found"], b["found"], strict=False))
            print(line + f"{b['bytes'] / size:>12.2f}  {same}/{len(a['found'])}", flush=True)


if __name__ == "__main__":
    main()
