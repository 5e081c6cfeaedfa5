"""What Seqera Platform is told of a run: its tasks, and a file for each report that tower.yml names."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml
from conftest import NEXTFLOW_VERSIONS, ROOT, VERSIONS, lacks, run_nextflow
from platform_server import platform_server

pytestmark = pytest.mark.pipeline


@pytest.mark.parametrize("version", VERSIONS)
def test_every_report_of_tower_yml_is_shown_and_every_task_arrives(tmp_path: Path, version: str) -> None:
    """Once as they run, once as -resume finds them."""
    plugins = NEXTFLOW_VERSIONS / "plugins"
    if not plugins.is_dir():
        lacks("nextflow-versions", f"no plugins of Seqera Platform in {plugins} (set NEXTFLOW_VERSIONS_DIR)")
    env = {"TOWER_ACCESS_TOKEN": "made-up", "NXF_OFFLINE": "true", "NXF_PLUGINS_DIR": str(plugins)}
    if version != VERSIONS[0]:
        env["NXF_PLUGINS_MODE"] = "prod"  # as released ones do by themselves; the launcher of `make setup` must too
    for status, more in (("COMPLETED", ()), ("CACHED", ("-resume",))):
        with platform_server() as server:
            done = run_nextflow(
                tmp_path, "-profile", "test,stub", "-stub-run", "-with-tower", server.address, *more, version=version,
                env=env, strategies="random", cycles=1,
            )  # fmt: skip
        assert done.returncode == 0, done.output
        assert len(done.trace) >= 8
        arrived = {task["name"]: task["status"] for task in server.tasks()}
        assert arrived == {row["name"]: status for row in done.trace}

    # The plugin notes what it takes for a report as it is published.
    (noted,) = tmp_path.glob("nf-*-reports.tsv")
    with noted.open(encoding="utf-8") as file:
        shown = [(row["key"], row["path"]) for row in csv.DictReader(file, delimiter="\t")]
    reports = yaml.safe_load((ROOT / "tower.yml").read_text())["reports"]
    assert {key for key, _ in shown} == set(reports)
    results = tmp_path / "results"
    assert [path for key, path in shown if key == "report.html"] == [str(results / "report.html")]
    tables = {Path(path).name for key, path in shown if key.startswith("tables/")}
    assert tables == {path.name for path in (results / "tables").iterdir()}
    assert all(settings["display"] for settings in reports.values())
