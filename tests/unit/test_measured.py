"""preflight.json: what is computed from it, and what is refused; and the iterations that it is measured from."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
from plan import Told, make_row, write_plan

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json
from nnactive_nf.core.measured import SETTINGS, Training, read_measured, write_measured
from nnactive_nf.forecast.disk import Publishing
from nnactive_nf.forecast.images import Images, images_of
from nnactive_nf.forecast.plan import read_plan
from nnactive_nf.forecast.run import Times, forecast
from nnactive_nf.measure import steps
from nnactive_nf.measure.few import CASES, CUBE, drawn_mask, prepare_few
from nnactive_nf.measure.run import found, in_own_process, kinds, measure, peak_resident, processor

SAME = {name: make_row("random").get(name) for name in SETTINGS}
ONE = Training(
    dataset="one", settings=SAME, device="cuda", device_name="GPU X", threads=1, workers=12, warm_up=41, iterations=24,
    iteration_seconds=0.5, validation_seconds=0.25, start_up_seconds=30.0, loader_percent=3.0,
    peak_gpu_memory_bytes=7 * 10**9, peak_host_memory_bytes=3 * 10**9, patch_size=(8, 8, 8), planned_batch=2,
    cases=("a", "b"), labels="given",
)  # fmt: skip
# 200 epochs of 250 iterations and 50 validation iterations
MINUTES = (30 + 200 * (250 * 0.5 + 50 * 0.25)) / 60


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_measured(tmp_path / "preflight.json", [ONE])
    return tmp_path / "preflight.json"


def told(folder: Path, rows: list[dict[str, Any]], file: Path, minutes: str | None = None) -> Told:
    (folder / "plan.json").unlink(missing_ok=True)
    times = Times(None, None, minutes, (1,), file, "p.json")
    return Told(forecast(write_plan(folder / "plan.json", rows), {}, times, Publishing("copy", False, False)))


def test_minutes_are_those_of_epochs_validation_and_start() -> None:
    assert ONE.minutes(200, 250) == pytest.approx(MINUTES)
    assert ONE.minutes(2, 1) == pytest.approx((30 + 2 * (0.5 + 0.25)) / 60)  # one validation iteration at least


def test_a_file_is_read_as_it_was_written(file: Path) -> None:
    (training,) = read_measured(file, "p.json").trainings
    assert asdict(training) == asdict(ONE) | {"patch_size": [8, 8, 8], "cases": ["a", "b"]}


def test_a_plan_takes_its_times(tmp_path: Path, file: Path) -> None:
    rows = [make_row("random", cycles=1), make_row("random", cycles=1, regime="short", epochs=20)]
    found = told(tmp_path, rows, file)
    assert found.tables["Minutes of a task"]["one"]["TRAIN"] == f"{MINUTES:,.0f}"
    figure = found.text.partition("minutes of TRAIN")[2].splitlines()[0].strip()
    assert figure == "measured by the preflight: 24 iterations on GPU X"
    assert found.text.partition("minutes of EVALUATE")[2].splitlines()[0].strip() == "assumed"
    short = (30 + 20 * (250 * 0.5 + 50 * 0.25)) / 60
    hours = (5 * (MINUTES + short) + 2 * 0.25 * MINUTES) / 60  # evaluations as of the data set's first row
    assert found.tables["Time"]["shared at cycle 0"]["GPU hours"] == f"{hours:.0f}"


def test_minutes_that_are_given_go_before(tmp_path: Path, file: Path) -> None:
    found = told(tmp_path, [make_row("random", cycles=1)], file, "9")
    assert found.tables["Minutes of a task"]["one"]["TRAIN"] == "9.0"
    assert found.text.partition("minutes of TRAIN")[2].splitlines()[0].strip() == "given"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"dataset": "two"}, "holds trainings on one, none on two"),
        ({"features": 16}, "one was measured with features not given, main of the plan has 16"),
        ({"optimiser": "adamw"}, "one was measured with optimiser sgd, main of the plan has adamw"),
        ({"device": "cpu"}, "one was measured on device cuda, the plan has cpu"),
    ],
)
def test_a_plan_of_other_trainings_is_refused(tmp_path: Path, file: Path, changes: dict, line: str) -> None:
    with pytest.raises(UserError) as refused:
        told(tmp_path, [make_row("random", **changes)], file)
    (said,) = refused.value.lines
    again = "run --preflight with the input and settings of the plan"
    assert said == f"--plan_from p.json: {line}; {again}"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{", "JSON"),
        ("[]", "not the preflight.json that --preflight with --input writes to <outdir>/pipeline_info"),
        ('{"format": "nnactive-nf/dataset", "version": 1}', "not the preflight.json"),
        ('{"format": "nnactive-nf/preflight", "version": 1, "trainings": []}', "damaged, it holds no trainings"),
        ('{"format": "nnactive-nf/preflight", "version": 1, "trainings": [3]}', "damaged, a training lacks dataset"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError) as refused:
        read_measured(tmp_path / "x.json", "mine/x.json")
    (said,) = refused.value.lines
    assert said.startswith("--plan_from mine/x.json: ") and line in said


@pytest.mark.parametrize(
    ("name", "value"),
    [("iteration_seconds", 0), ("iteration_seconds", "1"), ("validation_seconds", -1.0), ("start_up_seconds", True),
     ("device", "tpu"), ("settings", {}), ("iterations", 0), ("dataset", 5)],
)  # fmt: skip
def test_damaged_files_are_refused(file: Path, name: str, value: Any) -> None:
    content = read_json(file)
    content["trainings"][0][name] = value
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"^--plan_from p\.json: damaged, "):
        read_measured(file, "p.json")


class Trainer(SimpleNamespace):
    """Iterations of a clock that tests wind: `ahead` of them find their batch ready, the others wait for it."""

    def __init__(self, clock: list[float], ahead: int = 0, workers: int = 0, cached: int = 0) -> None:
        loader = SimpleNamespace(**({"num_processes": workers, "num_cached": cached} if workers else {}))
        mode = SimpleNamespace(train=lambda: None, eval=lambda: None)
        super().__init__(clock=clock, ahead=ahead, loader_seconds=0.0, dataloader_train=loader, dataloader_val=loader,
                         network=mode, lr_scheduler=SimpleNamespace(step=lambda _: None), steps=0)  # fmt: skip

    def iteration(self) -> None:
        wait = 0.0 if self.steps < self.ahead else 3.0
        self.clock[0] += wait + (10.0 if self.steps == 0 else 1.0)
        self.loader_seconds += wait
        self.steps += 1

    validation = iteration


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [0.0]
    monkeypatch.setattr(steps, "time", SimpleNamespace(monotonic=lambda: now[0]))
    yield now


def test_what_warms_up_does_not_count(clock: list[float]) -> None:
    found = steps.time_training(Trainer(clock))
    assert (found.iterations, found.warm_up) == (20, 5)
    assert (found.seconds, found.loader_percent) == (4.0, 75.0)
    assert found.extra_seconds == pytest.approx(9.0)  # the first iteration's


def test_batches_that_lie_ready_are_used_up_first(clock: list[float]) -> None:
    """Processes have filled two queues, and hold one each; the iterations that count are whole rounds of theirs."""
    found = steps.time_training(Trainer(clock, ahead=2 * 4 + 3, workers=3, cached=4))
    assert (found.iterations, found.warm_up) == (21, 5 + 2 * 4 + 3)
    assert (found.seconds, found.loader_percent) == (4.0, 75.0)


def test_slow_iterations_are_fewer(clock: list[float]) -> None:
    found = steps.time_training(Trainer(clock), at_most_s=60.0)
    assert (found.warm_up, found.iterations) == (3, 10)  # 13 + 4 + 4 >= 20 s; then 4 s each up to 60
    assert steps.time_training(Trainer(clock), at_most_s=0.0).iterations == 1


def test_validation_is_timed_apart(clock: list[float]) -> None:
    found = steps.time_validation(Trainer(clock, ahead=0))
    assert (found.iterations, found.warm_up, found.seconds) == (5, 1, 4.0)


def test_each_kind_of_training_is_measured_once(tmp_path: Path) -> None:
    rows = [
        make_row("random"),
        make_row("random", regime="long", epochs=600),
        make_row("random", regime="x", features=8),
    ]
    groups = read_plan(write_plan(tmp_path / "plan.json", [*rows, make_row("random", dataset="two")]))
    assert [(row.dataset, row.regime) for row in kinds([group.row for group in groups])] == [
        ("one", "main"), ("one", "x"), ("two", "main"),
    ]  # fmt: skip


def test_what_the_table_says(tmp_path: Path) -> None:
    row = read_plan(write_plan(tmp_path / "plan.json", [make_row("random")]))[0].row
    told = found(ONE, row)
    assert (told.state, told.remedy) == ("ok", "")
    assert told.what == (
        "one: 0.5 s an iteration (24, after 41 to warm up) on GPU X; 7.0 GB of GPU memory at most; the loader "
        "makes the GPU wait in 3% of the time; a training of 200 x 250 iterations takes 459 min"
    )
    slow = found(replace(ONE, loader_percent=15.0, labels="drawn"), row)
    assert slow.state == "warning" and "cpus" in slow.remedy and "on drawn labels" in slow.what
    on_cpu = replace(ONE, device="cpu", peak_gpu_memory_bytes=None, loader_percent=50.0)
    assert (
        found(on_cpu, row).state == "ok"
        and "3.0 GB of memory at most; batches are made in 50%" in found(on_cpu, row).what
    )


def test_drawn_labels_are_cubes_of_classes() -> None:
    shape = (CUBE + 1, 2 * CUBE, 5)
    mask = drawn_mask(shape, tiny.CLASSES, "a")
    assert mask.shape == shape and mask.dtype == tiny.CLASSES.dtype
    assert set(np.unique(mask)) <= set(tiny.CLASSES.values)
    for z, y in itertools.product((0, CUBE), (0, CUBE)):
        assert len(np.unique(mask[z : z + CUBE, y : y + CUBE])) == 1


def ended(_: Any = None) -> None:
    import os

    os.kill(os.getpid(), 9)


def out_of_memory() -> None:
    raise MemoryError


def test_memory_that_is_too_little_is_told_in_a_line() -> None:
    with pytest.raises(UserError, match="the system has ended the process; most likely it wanted more memory"):
        in_own_process(ended)
    with pytest.raises(UserError, match="there is too little memory"):
        in_own_process(out_of_memory)


def test_memory_and_processor_of_this_process(tmp_path: Path) -> None:
    assert 10**6 < peak_resident() < 10**12
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: A Chip 3\n")
    assert processor(tmp_path / "cpuinfo") == "A Chip 3"
    assert processor(tmp_path / "none") == "the CPU"


def test_what_cannot_be_measured_is_a_fault_and_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = write_plan(tmp_path / "plan.json", [make_row("random", folder="/data/one")])
    (tmp_path / "raw_1").mkdir()
    measure(plan, {"one": tmp_path / "raw_1"}, "cpu", 1, 0, tmp_path / "preflight.json", begun=time.monotonic())
    said = capsys.readouterr().out
    assert '"state": "fault"' in said and "one: no dataset.json in /data/one" in said
    assert not (tmp_path / "preflight.json").exists()


def test_a_few_cases_are_prepared_by_the_plan_for_all(phantom: Path, tmp_path: Path) -> None:
    """With labels; and of the same images without any, on drawn ones."""
    unlabelled = tmp_path / "unlabelled"
    shutil.copytree(phantom, unlabelled, ignore=shutil.ignore_patterns("labelsTr"))
    for folder, oracle in ((phantom, "labels"), (unlabelled, "people")):
        (tmp_path / "plan.json").unlink(missing_ok=True)
        row = read_plan(write_plan(tmp_path / "plan.json", [make_row("random", oracle=oracle)]))[0].row
        (tmp_path / oracle).mkdir()
        few = prepare_few(row, folder, tmp_path / oracle)
        assert few.drawn == (oracle == "people")
        assert len(few.dataset.pool) == CASES and set(few.labels.masks) == set(few.dataset.pool)
        assert all(few.labels.masks[case].shape == few.dataset.shapes[case] for case in few.dataset.pool)
        images = images_of(row, folder)
        assert isinstance(images, Images)
        intensities = "foreground_intensity_properties_per_channel"
        assert few.dataset.plans | {intensities: {}} == images.plans | {intensities: {}}
        assert list(few.dataset.plans[intensities]) == ["0"]


def test_a_few_cases_are_prepared_by_the_users_plans(phantom: Path, tmp_path: Path) -> None:
    row = read_plan(write_plan(tmp_path / "plan.json", [make_row("random")]))[0].row
    images = images_of(row, phantom)
    assert isinstance(images, Images)
    own = json.loads(json.dumps(images.plans))
    own["configurations"]["3d_fullres"] |= {"patch_size": [16, 24, 32], "batch_size": 3}
    own["experiment_planner_used"] = "nnUNetPlannerResEncM"
    own.pop("foreground_intensity_properties_per_channel", None)
    (tmp_path / "own.json").write_text(json.dumps(own))
    plans = prepare_few(row, phantom, tmp_path, tmp_path / "own.json").dataset.plans
    assert plans["configurations"]["3d_fullres"]["patch_size"] == [16, 24, 32]
    assert plans["foreground_intensity_properties_per_channel"]["0"]["mean"] > 0
