"""The report: one HTML file that carries all it needs, and the figures as files beside it."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import plotly.offline

from nnactive_nf import __version__
from nnactive_nf.core.files import whole_file
from nnactive_nf.core.pages import class_colours, script_json
from nnactive_nf.report import answer, content
from nnactive_nf.report.agreement import agreement
from nnactive_nf.report.figures import write_figures
from nnactive_nf.report.gallery import colour_table, find_queries, gallery
from nnactive_nf.report.look import looks
from nnactive_nf.report.tables import Tables
from nnactive_nf.report.trainings import trainings

TEMPLATES = Path(__file__).parent / "templates"
PACKAGES = [
    "click", "h5py", "jinja2", "matplotlib", "monai", "nnunetv2", "numpy", "pandas", "pillow", "plotly", "scikit-image",
    "scikit-learn", "scipy", "SimpleITK", "statsmodels", "torch",
]  # fmt: skip


@dataclass(frozen=True)
class Pictures:
    """Where pictures of queries lie: views, the label masks shown beside them, and what `find_queries` calls suffix."""

    views: Path
    labels: Path | None = None
    suffix: str = ""


def write_report(
    tables: Tables,
    out: Path,
    figures: Path | None,
    pictures: Sequence[Pictures] = (),
    parameters: Mapping[str, Any] | None = None,
    versions: Mapping[str, Any] | None = None,
    title: str = "Active learning study",
) -> None:
    """Write `report.html` and the figures.

    Args:
        tables: what ANALYSE wrote.
        out: the HTML file.
        figures: folder for the figures as PNG and SVG; None for none.
        pictures: folders with the queries' pictures.
        parameters: the run's parameters.
        versions: versions of programs; those of the Python packages are added.
        title: the page's title.
    """
    queries = [query for one in pictures for query in find_queries(tables.design, one.views, one.labels, one.suffix)]
    html = page(tables, gallery(tables.design, queries), parameters or {}, versions or {}, title)
    with whole_file(out) as temporary:
        temporary.write_text(html, encoding="utf-8")
    if figures is not None:
        write_figures(tables, queries, figures)


def page(
    tables: Tables,
    pictures: Mapping[str, Any],
    parameters: Mapping[str, Any],
    versions: Mapping[str, Any],
    title: str,
) -> str:
    """The whole HTML page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    design = tables.design
    notes, alone = tables["notes"], answer.is_alone(design)
    datasets = dict.fromkeys(dataset for dataset, _ in design.settings)
    trained = trainings(tables)
    data = {
        **content.figure_data(tables),
        "trainings": trained["data"] if trained else None,
        "gallery": pictures,
        "colours": colour_table(),
        "classColours": {
            dataset: class_colours(pictures["labels"].get(dataset, ["background", *tables.classes(dataset)[1:]]))
            for dataset in datasets
        },
        "trajectories": [
            {"id": t.id, "dataset": t.dataset, "regime": t.regime, "strategy": t.strategy, "seed": t.seed}
            for t in design.trajectories
        ],
    }
    found = {**python_versions(), **versions}
    return environment.get_template("report.html.j2").render(
        title=title,
        version=__version__,
        question=_question(tables),
        answers=answer.answer(tables),
        certainty=answer.certainty(tables),
        best=[] if alone else answer.best_by_setting(tables),
        missing=list(notes.loc[notes["topic"] == "missing", "text"]),
        notes=list(notes.loc[~notes["topic"].isin(["missing", *(["baseline", "seeds"] if alone else [])]), "text"]),
        alone=alone,
        strategies=design.strategies,
        looks=looks(design),
        design=design,
        alpha=tables.statistics["alpha"],
        draws=tables.statistics["bootstrap_draws"],
        oracle_aware=[s for s in design.strategies if s.oracle_aware],
        has_gallery=bool(pictures["queries"]),
        agreement=agreement(tables),
        trainings=trained,
        pictures_left_out=pictures["left_out"],
        has_efficiency=any(setting["efficiency"] for setting in data["settings"]),
        has_reliability=any(setting["reliability"] for setting in data["settings"]),
        has_costs=bool(tables["cost"]["voxels"].notna().any()),
        tables={
            "verdicts": content.verdict_table(tables),
            "results": content.result_table(tables),
            "trajectories": content.trajectory_table(tables),
            "stopped": content.stop_table(tables),
            "classes": content.class_tables(tables),
            "efficiency": content.efficiency_table(tables),
            "cost": content.cost_table(tables),
            "counts": content.class_count_table(tables),
            "calibration": content.calibration_table(tables),
            "noise": content.noise_table(tables),
            "runtimes": content.runtime_table(tables),
            "parameters": content.key_values("parameters", "Parameters of the run.", parameters),
            "versions": content.key_values("versions", "Versions of programs and packages.", found),
        },
        plotly=plotly.offline.get_plotlyjs(),
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=(TEMPLATES / "report.js").read_text(encoding="utf-8"),
        data=script_json(data),
    )


def _question(tables: Tables) -> str:
    design = tables.design
    datasets = len({dataset for dataset, _ in design.settings})
    seeds = len({t.seed for t in design.trajectories})
    learned = sum(not strategy.is_random for strategy in design.strategies)
    chosen = sum(strategy.is_random for strategy in design.strategies)
    parts = [
        _plural(datasets, "data set"),
        _plural(len({regime for _, regime in design.settings}), "label regime"),
        _plural(learned, "query strategy", "query strategies"),
        _plural(chosen, "random baseline"),
        _plural(seeds, "seed"),
        _plural(design.cycles, "cycle"),
        _plural(len(design.trajectories), "trajectory", "trajectories"),
    ]
    return " · ".join(parts)


def _plural(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def python_versions() -> dict[str, str]:
    """Versions of Python and of the packages that the stages use, by name."""
    found = {"python": platform.python_version(), "nnactive-nf": __version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
