"""The tables' folder: written by ANALYSE, read by REPORT and by `compare`."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd

from nnactive_nf.analyse import comparisons, tables
from nnactive_nf.analyse.agreement import agreement_table
from nnactive_nf.analyse.efficiency import efficiency_table
from nnactive_nf.analyse.notes import add_notes
from nnactive_nf.analyse.study import Study, table
from nnactive_nf.core.files import whole_file, write_json
from nnactive_nf.core.result_tables import COLUMNS, GZIPPED, table_file
from nnactive_nf.core.tables import without_formulas


def all_tables(study: Study, alpha: float = 0.05, draws: int = 2000) -> dict[str, pd.DataFrame]:
    """All tables by their file's name without `.csv`."""
    trajectories = tables.trajectories_table(study)
    tests = comparisons.tests_table(study, alpha)
    found = {
        "metrics": tables.metrics_table(study),
        "queries": tables.queries_table(study),
        "trajectories": trajectories,
        "summary": tables.summary_table(study, trajectories),
        "versus_random": comparisons.versus_random_table(study, trajectories, tests, alpha),
        "tests": tests,
        "ppm": comparisons.penalty_table(study, tests, alpha),
        "ranks": comparisons.ranks_table(study, trajectories, draws),
        "efficiency": efficiency_table(study),
        "cost": tables.cost_table(study),
        "class_counts": tables.class_counts_table(study),
        "calibration": tables.calibration_table(study),
        "calibration_bins": study.bins,
        "noise": tables.noise_table(study),
        "pool": study.pool,
        "full_reference": study.full,
        "runtimes": study.runtimes[list(COLUMNS["runtimes"])],
        "curves": study.curves,
        "stopped": tables.stopped_table(study),
        "missing": study.lacking,
    }
    if len(study.agreement):
        found["agreement"] = agreement_table(study.agreement)
    add_notes(study, found)
    return found | {"notes": table(COLUMNS["notes"], study.notes)}


def analyse(study: Study, out: Path, alpha: float = 0.05, draws: int = 2000) -> dict[str, pd.DataFrame]:
    """Work out all tables and write them to `out`, with the plan and the settings of the statistics beside them."""
    found = all_tables(study, alpha, draws)
    for name, frame in found.items():
        text = without_formulas(frame).to_csv(index=False, float_format="%.10g").encode()
        with whole_file(out / table_file(name)) as temporary:
            temporary.write_bytes(text if name not in GZIPPED else gzip.compress(text, 6, mtime=0))
    write_json(out / "design.json", study.design.as_json())
    write_json(out / "statistics.json", {"alpha": alpha, "bootstrap_draws": draws})
    return found
