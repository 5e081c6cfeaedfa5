#!/usr/bin/env python
"""Time and peak memory of a query in one image: patch means at all start positions and the choice of 20 patches.

Ours (running sums, masked argmax) stands beside the plain way, which does what the reference implementation does: at
stride 1 `scipy.signal.convolve` (by FFT at these sizes), at larger strides torch's convolution with that stride; then
all scores and positions sorted, as Python lists, and a walk down them that works out the coordinates of what it meets
and holds them against every patch taken. The plain way knows no last position of an axis beside the stride's grid, so
where the grid does not end at the border (the smallest size) it may choose otherwise.

Each is measured in processes of its own, on one core, in the same run, and both in the same manner. Times are seconds
that the core worked (user and system), so that other work on the machine counts less; the best of as many tries for
both. Memory is the rise of the resident set to its peak in a process that gives freed memory back at once, so that
nothing is hidden in pages used before; for small maps, where pages are too coarse, what was allocated if that is more.
The float32 map itself is included.

    bench/query.py            all sizes; by the figures of the second, the plain way needs some 6 GB for the largest
    bench/query.py --quick    the two smaller sizes
"""

import argparse
import ctypes
import gc
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
SMALL = 1 << 25  # bytes of a map
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}  # glibc: no freed array is kept
ROOT = Path(__file__).resolve().parent.parent


def ours(values, patch, stride):
    """As QUERY does it."""
    from nnactive_nf.query.grid import Grid, Scores, planes_of

    grid = Grid.of(values.shape, (patch,) * 3, (stride,) * 3)
    return [(score, box.start_zyx) for box, score in Scores.of_means(planes_of(values), grid).take(PATCHES)]


def plain(values, patch, stride):
    """The plain way: convolve, sort all scores and positions, walk down the list."""
    import numpy as np

    means = convolved(values, patch, stride)
    flat = means.flatten()
    order = np.flip(np.argsort(flat))
    scores, places = np.take_along_axis(flat, order, axis=0).tolist(), order.tolist()
    taken = []
    for score, place in zip(scores, places, strict=True):
        start = tuple(int(i) * stride for i in np.unravel_index(place, means.shape))
        if not any(all(abs(a - b) < patch for a, b in zip(start, other, strict=True)) for _, other in taken):
            taken.append((score, start))
            if len(taken) == PATCHES:
                break
    return taken


def convolved(values, patch, stride):
    """Patch means on the stride's grid, as the reference makes them."""
    import numpy as np
    import torch
    from scipy.signal import convolve

    if stride == 1:
        return convolve(values, np.ones((patch,) * 3) / patch**3, mode="valid")
    kernel = torch.ones((1, 1, patch, patch, patch)) / patch**3
    with torch.no_grad():
        return torch.nn.functional.conv3d(torch.from_numpy(values)[None, None], kernel, stride=stride)[0, 0].numpy()


WAYS = {"ours": ours, "plain": plain}


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


def prepared(way, shape):
    """The way's function, its imports done, and a map."""
    sys.path.insert(0, str(ROOT / "bin"))
    for stride in (1, 2):
        WAYS[way](field((8, 8, 8)), 2, stride)
    return WAYS[way], field(shape)


def measure_time(way, shape, patch, stride, repeats):
    """Seconds, the best of `repeats`, and what was found."""
    run, values = prepared(way, shape)
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        found = run(values, patch, stride)
        seconds.append(time.process_time() - start)
    return {"seconds": min(seconds), "found": found}


def measure_memory(way, shape, patch, stride):
    """Peak bytes, the map included; `GIVE_BACK` must stand in the process's environment."""
    run, values = prepared(way, shape)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    run(values, patch, stride)
    peak = status("VmHWM") - before
    if values.nbytes < SMALL:
        tracemalloc.start()
        run(values, patch, stride)
        peak = max(peak, tracemalloc.get_traced_memory()[1])
    return {"bytes": peak + values.nbytes}


def in_child(function, *arguments):
    """A function in a new interpreter; `None` where it was ended for want of memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        try:
            return child.submit(function, *arguments).result()
        except (BrokenProcessPool, MemoryError):
            return None


def measured(way, shape, patch, stride, repeats):
    """Seconds, bytes and what was found; `None` for want of memory."""
    timed = in_child(measure_time, way, shape, patch, stride, repeats)
    if timed is None:
        return None
    os.environ |= GIVE_BACK
    kept = in_child(measure_memory, way, shape, patch, stride)
    for name in GIVE_BACK:
        del os.environ[name]
    return kept and timed | kept


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
            repeats = 3 if size < SMALL else 1
            a, b = (measured(way, shape, patch, stride, repeats) for way in WAYS)
            line = f"{'x'.join(map(str, shape)):>12} {patch:>5} {stride:>6} {a['seconds']:>9.4f} "
            if b is None:
                print(line + "    (the plain way ran out of memory)" + f" {a['bytes'] / size:>12.2f}", flush=True)
                continue
            line += f"{b['seconds']:>9.3f} {b['seconds'] / a['seconds']:>7.1f} {a['bytes'] / size:>12.2f} "
            same = sum(x[1] == y[1] for x, y in zip(a["found"], b["found"], strict=False))
            print(line + f"{b['bytes'] / size:>12.2f}  {same}/{len(a['found'])}", flush=True)


if __name__ == "__main__":
    main()
