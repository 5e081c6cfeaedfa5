"""What a site's configuration or the place of its work folder does not allow, and tasks that are lost all the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import VERSIONS, copy_project, run_nextflow

pytestmark = pytest.mark.pipeline

STUB = ("-profile", "test,stub", "-stub-run")
HANG = 900  # seconds after which a run counts as one that waits for labels that never come

each_version = pytest.mark.parametrize("version", VERSIONS)


@each_version
def test_a_configuration_that_passes_over_failed_tasks_is_refused(tmp_path: Path, version: str) -> None:
    (tmp_path / "site.config").write_text("process.queue = 'x' // never 'ignore'\nincludeConfig 'inner.config'\n")
    (tmp_path / "inner.config").write_text(
        "process {\n    withName: 'QUERY' { errorStrategy = { task.exitStatus == 3 ? 'ignore' : 'finish' } }\n}\n"
    )
    done = run_nextflow(
        tmp_path, *STUB, "-c", "site.config", "-process.errorStrategy", "ignore", version=version, measured=False,
        timeout=HANG,
    )  # fmt: skip
    assert done.returncode != 0 and not done.trace
    places = re.findall(r"ERROR: errorStrategy 'ignore' in (.+): the loop would wait", done.output)
    assert places == [f"{tmp_path / 'inner.config'}, line 2", "the command line"]


@each_version
def test_a_lost_training_is_no_success(tmp_path: Path, version: str) -> None:
    """Passed over by a configuration that does not show it, in the last cycle, which nothing waits for."""
    mine = copy_project(tmp_path / "project")
    module = mine / "modules" / "train.nf"
    head, stub = module.read_text().split("    stub:\n")
    module.write_text(f"{head}    stub:\n" + stub.replace('"""\n', '"""\n    [[ "${fold}" != 1 ]] || exit 3\n', 1))
    (tmp_path / "site.config").write_text("process.errorStrategy = { ['ign', 'ore'].join() }\n")
    done = run_nextflow(
        tmp_path, *STUB, "-c", "site.config", project=mine, version=version, measured=False, timeout=HANG,
        strategies="random", seeds=7, cycles=1,
    )  # fmt: skip
    assert done.returncode != 0, done.output
    assert "1 of 1 ensembles were not evaluated: phantom-main-s7-c00\n" in done.output
    assert "Done." not in done.output and "The run has failed" in done.output


# As the loop of workflows/active_learning.nf: each message asks for the next one, and the last is the third.
LOOP = """
process STEP {
    input:
    val number

    output:
    val next, topic: 'steps'

    exec:
    next = number + 1
}

workflow {
    main:
    steps = channel.topic('steps').take(3)
    STEP(channel.of(0).mix(steps.filter { number -> number < 3 }))
    steps.toList().subscribe { numbers -> println("steps ${numbers.sort()}") }
}
"""


@each_version
def test_a_process_that_reads_the_topic_it_feeds_ends_by_take(tmp_path: Path, version: str) -> None:
    """Nextflow's manual says that such a process hangs; the number that `take` is given ends it."""
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "main.nf").write_text(LOOP)
    done = run_nextflow(tmp_path, project=tmp_path / "mini", version=version, measured=False, timeout=HANG)
    assert done.returncode == 0, done.output
    assert "steps [1, 2, 3]" in done.stdout
