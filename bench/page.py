#!/usr/bin/env python
"""Size of an annotation page, seconds to make and to open it, and to go to a patch of the same and of another case.

Made-up CT cases of 512 x 512 x 100 voxels (noise of 15 HU over smooth tissue, so that they pack like CT), two patches
of 128 x 128 x 32 in each, cut to a margin round them: once with the two patches side by side, once in opposite corners,
which cuts next to nothing away. The browser is headless Chromium with WebGL by SwiftShader, so on the machine's cores,
with the screen of a laptop; a GPU is faster. The best of as many tries for both.

    bench/page.py              10 cases, so 20 patches
    bench/page.py --cases 2    fewer
"""

import argparse
import gzip
import shutil
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
from playwright.sync_api import sync_playwright
from scipy.ndimage import zoom

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bin"))

from nnactive_nf.hand_out.page import PageCase, PagePatch, niivue_text, page_text  # noqa: E402

SHAPE, PATCH, MARGIN = (512, 512, 100), (128, 128, 32), (32, 32, 8)
PLACES = {"side by side": [(150, 200, 30), (278, 200, 30)], "opposite corners": [(20, 20, 4), (364, 364, 64)]}
SPACING = (0.7, 0.7, 3.0, 1)
CLASSES = [("background", 0), *((f"organ {value}", value) for value in range(1, 16))]
UNDECIDED = 255
TRIES = 2
OPTIONS = ["--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def nifti(values):
    """Bytes of a .nii.gz."""
    return gzip.compress(nibabel.Nifti1Image(values, np.diag(SPACING)).to_bytes(), 6)


def case(number, places):
    """A case, cut to the margin round its patches."""
    rng = np.random.default_rng(number)
    low = [max(0, min(place[k] for place in places) - MARGIN[k]) for k in range(3)]
    high = [min(SHAPE[k], max(place[k] for place in places) + PATCH[k] + MARGIN[k]) for k in range(3)]
    shape = [b - a for a, b in zip(low, high, strict=True)]
    coarse = rng.normal(40, 60, [-(-n // 16) + 1 for n in shape])
    smooth = zoom(coarse, 16, order=1)[tuple(slice(n) for n in shape)]
    image = np.rint(smooth + rng.normal(0, 15, shape)).astype(np.int16)
    uncertainty = np.exp(-np.abs(smooth - 40) / 20).astype(np.float16).astype(np.float32)
    start = np.full(shape, UNDECIDED, np.uint8)
    patches = []
    for k, place in enumerate(places):
        box = [(p - a, p - a + size) for p, a, size in zip(place, low, PATCH, strict=True)]
        inside = tuple(slice(*edges) for edges in box)
        start[inside] = np.clip((smooth[inside] - 60) // 20, 0, 15).astype(np.uint8)
        patches.append(PagePatch(2 * number + k + 1, *zip(*box, strict=True)))
    return PageCase(f"amos_{number:04}", [("CT", nifti(image))], nifti(start), nifti(uncertainty), patches)


def seconds(page, script):
    """Seconds until what the script shows is on the screen."""
    return page.evaluate(
        f"(async () => {{ const start = performance.now(); await {script};"
        " await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));"
        " const gl = annotation.viewer.nv.gl; gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));"
        " return (performance.now() - start) / 1000; })()"
    )


def opened(browser, path):
    """Seconds to open the page, to go to a patch of the same case, of another case, and to turn to 3D."""
    page = browser.new_context(viewport={"width": 1366, "height": 768}).new_page()
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]", timeout=300_000)
    found = [time.perf_counter() - start]
    for script in ("annotation.show(2)", "annotation.show(3)", "annotation.useView('3d')"):
        found.append(seconds(page, script))
    page.context.close()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--keep", type=Path, help="folder for the pages")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    print("patches           voxels of a case    page MB    make s    open s    same case s    other case s    3D s")
    with sync_playwright() as playwright:
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
        browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
        for name, places in PLACES.items():
            cases = [case(number, places) for number in range(options.cases)]
            shape = nibabel.Nifti1Image.from_bytes(gzip.decompress(cases[0].start)).shape
            start = time.perf_counter()
            text = page_text(name, cases, CLASSES, UNDECIDED, niivue_text())
            made = time.perf_counter() - start
            path = folder / f"{name.replace(' ', '_')}.html"
            path.write_text(text, encoding="utf-8")
            best = np.min([opened(browser, path) for _ in range(TRIES)], axis=0)
            times = "".join(f"{value:{width}.2f}" for value, width in zip(best, (10, 15, 16, 8), strict=True))
            print(f"{name:18}{' x '.join(map(str, shape)):18}{path.stat().st_size / 1e6:9.1f}{made:10.2f}{times}")
        browser.close()
    if options.keep is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
