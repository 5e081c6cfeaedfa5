"""nnU-Net's own prediction from a model folder, called as its user calls it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# What stands behind nnUNetv2_predict_from_modelfolder. On a CPU it takes as many threads as there are cores, and tests
# share those.
ONE_THREAD = """
import multiprocessing
from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder
multiprocessing.cpu_count = lambda: 1
predict_entry_point_modelfolder()
"""


def by_nnunet(model: Path, images: Path, cases: Sequence[str], out: Path) -> Path:
    """Run the command that predict.md names, on copies of the cases' images, with nnU-Net as it is."""
    inputs = out / "input"
    inputs.mkdir(parents=True)
    for case in cases:
        for path in images.glob(f"{case}_*"):
            shutil.copy(path, inputs)
    (line,) = [line for line in (model / "predict.md").read_text().splitlines() if "modelfolder -i" in line]
    words = line.strip().replace("INPUT", str(inputs)).replace("OUTPUT", str(out / "output")).split(" ")
    assert words[0] == "nnUNetv2_predict_from_modelfolder"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")}
    done = subprocess.run(
        [sys.executable, "-c", ONE_THREAD, *words[1:], "-device", "cpu", "-npp", "1", "-nps", "1"],
        cwd=model, capture_output=True, text=True, check=False, timeout=1200, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "output"
