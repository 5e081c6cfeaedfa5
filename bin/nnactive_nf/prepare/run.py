"""The stage as a whole: raw folder in, prepared folder, oracle and reference out."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from nnactive_nf.core.budget import CASES_PER_CLASS, test_cases
from nnactive_nf.core.classes import Classes
from nnactive_nf.core.dataset import CASE_COLUMNS, FORMAT, VERSION
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import whole_file, write_json
from nnactive_nf.core.folds import assign_folds, classes_in_one_fold
from nnactive_nf.core.geometry import bounding_box
from nnactive_nf.core.grid import GRID_COLUMNS, grid_of_head, grid_row
from nnactive_nf.core.hdf5 import create_hdf5
from nnactive_nf.core.labels import Labels, Mask, empty_patches, patch_counts, write_labels
from nnactive_nf.core.patients import case_groups
from nnactive_nf.core.planning import PLANNER
from nnactive_nf.core.raw import RawDataset, list_raw
from nnactive_nf.core.seeds import stream
from nnactive_nf.prepare.check import CaseFacts, check_case
from nnactive_nf.prepare.plan import FINGERPRINT_SAMPLES, kept_plans, plan, users_plan
from nnactive_nf.prepare.preprocess import PreparedCase, preprocess_case, unpack
from nnactive_nf.prepare.split import check_start, class_table, given_split, split_pool_test
from nnactive_nf.prepare.starts import NetworkStart, check_starts

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Settings:
    """What PREPARE is asked for; names as in `nextflow_schema.json`, and `plans_before`: those of `keep_plans`."""

    name: str
    configuration: str
    test_fraction: float
    split_seed: int
    groups: Path | None
    group_pattern: str | None
    folds: int
    start_size: int
    free_masks: Path | None = None
    planner: str = PLANNER
    test_cases: tuple[str, ...] = ()
    test_folder: bool = False
    people: bool = False
    plans: Path | None = None
    plans_before: Path | None = None
    starts: tuple[NetworkStart, ...] = ()


def prepare(folder: Path, settings: Settings, workers: int, out: Path, oracle: Path, reference: Path) -> None:
    """Check, split, plan and preprocess a raw data set.

    Args:
        folder: nnU-Net raw or Decathlon folder; it is only read.
        settings: see `Settings`.
        workers: cases that are read at the same time.
        out: folder to make (see `nnactive_nf.core.dataset`).
        oracle: file to make: whole masks of the pool on the image grid, where people label only of cases with labels.
        reference: file to make: whole masks of the test set on the files' own grids.

    Raises:
        UserError: whatever is wrong with the data set, all of it at once.
    """
    raw = list_raw(folder, settings.free_masks, settings.test_folder, settings.people)
    prepare_cases(raw, settings, workers, out, oracle, reference)


def prepare_cases(raw: RawDataset, settings: Settings, workers: int, out: Path, oracle: Path, reference: Path) -> None:
    """What `prepare` does with a data set that was listed."""
    names = list(raw.classes.named)
    print(f"{settings.name}: {len(raw.cases)} cases, {len(raw.channels)} channels, classes {names}")
    facts = _check_all(raw, workers)
    groups = case_groups([fact.name for fact in facts], settings.groups, settings.group_pattern)
    class_voxels = {fact.name: fact.class_voxels for fact in facts}
    _tell_classes(facts, names)
    held_out = raw.held_out or settings.test_cases
    split = (
        given_split(groups, class_voxels, names, held_out, settings.people)
        if held_out or settings.people
        else split_pool_test(
            groups, class_voxels, names, test_fraction=settings.test_fraction, seed=settings.split_seed
        )
    )
    _refuse_parts(facts, split)
    pool = [case for case, side in split.items() if side == "pool"]
    check_start(pool, groups, start_size=settings.start_size, folds=settings.folds, class_count=len(names))
    if settings.people:
        print(f"{len(pool)} cases in the pool, {len(split) - len(pool)} in the test set; people label")
    else:
        _tell_sizes(len(pool), len(split) - len(pool), len(held_out) or test_cases(settings.test_fraction, len(split)))
        _tell_folds({case: class_voxels[case] for case in pool}, groups, names, settings)
    of_pool = [fact for fact in facts if split[fact.name] == "pool"]
    plans = _plans(raw, of_pool, settings)
    check_starts(settings.starts, plans, settings.configuration, len(raw.channels))

    temporary = out.with_name(f".{out.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "network").mkdir(parents=True)
    prepared: list[PreparedCase] = []
    jobs = [(raw, case, plans, settings.configuration, temporary / "network") for case in raw.cases]
    for case in _in_parallel(preprocess_case, jobs, workers):
        prepared.append(case)
        if len(prepared) % 50 == 0:
            print(f"{len(prepared)} of {len(raw.cases)} cases preprocessed")
    prepared.sort(key=lambda case: case.name)
    given = {fact.name: fact.in_part for fact in facts if fact.labelled and split[fact.name] == "pool"}
    _write_masks(oracle, "oracle", raw.classes, settings.name, {
        case.name: (case.mask, case.spacing_mm) for case in prepared if given.get(case.name) is False
    })  # fmt: skip
    spacings = {fact.name: fact.head.spacing_mm for fact in facts}
    _write_masks(reference, "reference", raw.classes, settings.name, {
        case.name: (case.original_mask, spacings[case.name]) for case in prepared if split[case.name] == "test"
    })  # fmt: skip
    _write_dataset(temporary, raw, settings, plans, prepared)
    if settings.people and given:
        _write_given(temporary / "given.h5", raw.classes, settings.name, [c for c in prepared if c.name in given])
    _write_cases(temporary, facts, prepared, groups, split)
    _write_empty(temporary, prepared)
    temporary.rename(out)
    shape = np.median([case.shape_zyx for case in prepared], axis=0).astype(int).tolist()
    print(f"image grid {prepared[0].spacing_mm} mm (z, y, x), median shape {shape}")


def _plans(raw: RawDataset, of_pool: Sequence[CaseFacts], settings: Settings) -> dict[str, Any]:
    """Plans by the user's file, by nnU-Net's planner, or those that patches were handed out by."""
    asked = raw, of_pool, settings.configuration, settings.name
    own = None if settings.plans is None else users_plan(*asked, settings.plans)
    if settings.plans_before is not None:
        print("planned as before these cases came: patches that were handed out are voxels of that spacing")
        channels = len(raw.channels)
        return kept_plans(settings.plans_before, settings.configuration, settings.planner, channels, own)
    if own is None:
        return plan(*asked, settings.planner)
    patch = own["configurations"][settings.configuration]["patch_size"]
    print(f"planned by the file of --plans: patch {patch} in the plan's order of axes, nothing is planned anew")
    return own


def _tell_classes(facts: Sequence[CaseFacts], names: Sequence[str]) -> None:
    labelled = {fact.name: fact.class_voxels for fact in facts if fact.labelled}
    if labelled:
        print(class_table(labelled, names, sum(fact.labelled_voxels for fact in facts)))
    if parts := [fact.labelled_voxels / fact.head.voxels for fact in facts if fact.in_part]:
        print(f"{len(parts)} cases are labelled in part, {min(parts):.1%} to {max(parts):.1%} of their voxels")
    if not any(any(voxels[1:]) for voxels in labelled.values()):
        print("no foreground is labelled: intensities are those of the body (CT) or of voxels that are not zero")


def _refuse_parts(facts: Sequence[CaseFacts], split: Mapping[str, str]) -> None:
    """Nothing is measured on a case that is not labelled as a whole."""
    lacking = [f.name for f in facts if split[f.name] == "test" and f.labelled_voxels < f.head.voxels]
    if lacking:
        raise UserError(
            f"test case {lacking[0]} holds voxels without a label ({len(lacking)} such cases); a test set wants whole "
            "labels"
        )


def _tell_sizes(pool: int, test: int, wanted: int) -> None:
    why = f"; {wanted} were asked for, but patients stay together and the pool keeps {CASES_PER_CLASS} of each class"
    print(f"{pool} cases in the pool, {test} in the test set{why if test != wanted else ''}")


def _tell_folds(
    class_voxels: Mapping[str, Sequence[int]], groups: Mapping[str, str], names: Sequence[str], settings: Settings
) -> None:
    """Say what no labels can mend: folds that fail for the whole masks fail for each part of them."""
    classes_in = {case: [i for i, count in enumerate(voxels) if count] for case, voxels in class_voxels.items()}
    rng = stream(settings.split_seed, 0, "prepare", "folds")
    for index in classes_in_one_fold(classes_in, assign_folds(classes_in, groups, settings.folds, rng)):
        print(
            f"folds {settings.folds}: whatever is labelled, one training of an ensemble does not see class "
            f"'{names[index]}' (or another), since patients stay together; use more folds or add patients"
        )


def _check_all(raw: RawDataset, workers: int) -> list[CaseFacts]:
    samples = max(1, FINGERPRINT_SAMPLES // len(raw.cases))
    facts = list(_in_parallel(check_case, [(raw, case, samples) for case in raw.cases], workers))
    problems = [problem for fact in facts for problem in fact.problems]
    if problems:
        raise UserError(*problems)
    return facts


def _in_parallel(work: Callable[..., Out], jobs: Sequence[tuple[Any, ...]], workers: int) -> Iterator[Out]:
    """Results in the order of the jobs, from as many processes as there are workers."""
    if workers <= 1 or len(jobs) <= 1:
        yield from (work(*job) for job in jobs)
        return
    # Forking is safe: nothing has started a thread or touched a GPU before, and it saves seconds of imports.
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=multiprocessing.get_context("fork")) as pool:
        futures = [pool.submit(work, *job) for job in jobs]
        try:
            yield from (future.result() for future in futures)
        finally:
            pool.shutdown(cancel_futures=True)


class _Unpacked(Mapping[str, Mask]):
    """Packed masks by case, of which one is unpacked at a time."""

    def __init__(self, packed: Mapping[str, bytes]) -> None:
        self._packed = packed

    def __getitem__(self, case: str) -> Mask:
        return unpack(self._packed[case])

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


def _write_masks(path: Path, kind: str, classes: Classes, dataset: str, masks: dict[str, tuple[bytes, Any]]) -> None:
    labels = Labels(
        dataset, "", -1, classes,
        masks=_Unpacked({case: mask for case, (mask, _) in masks.items()}),
        spacings_mm={case: spacing for case, (_, spacing) in masks.items()},
    )  # fmt: skip
    write_labels(path, labels, kind)


def _write_given(path: Path, classes: Classes, dataset: str, cases: Sequence[PreparedCase]) -> None:
    """Labels that the pool brought along: of each case one patch of the cycle before the first.

    That is the whole case, or of one that is labelled in part the smallest box that holds all of its labels.
    """
    packed, rows = {}, []
    for case in sorted(cases, key=lambda case: case.name):
        mask = unpack(case.mask)
        known = mask != classes.ignore_value
        if not known.any():  # so few voxels that none holds half of one of the image grid
            continue
        box = bounding_box(known)
        told = {"cycle": -1, "case": case.name, "score": 0.0, "strategy": "given", "component": "all"}
        rows.append(patch_counts(mask[box.slices], box, classes) | told)
        packed[case.name] = case.mask
    columns = empty_patches(classes)
    table = pd.DataFrame(rows, columns=columns.columns).astype(columns.dtypes.to_dict())
    labels = Labels(
        dataset, "", -1, classes, _Unpacked(packed), table,
        {c.name: (c.spacing_mm[0], c.spacing_mm[1], c.spacing_mm[2]) for c in cases if c.name in packed},
    )  # fmt: skip
    write_labels(path, labels)


def _write_dataset(
    folder: Path, raw: RawDataset, settings: Settings, plans: dict[str, Any], prepared: Iterable[PreparedCase]
) -> None:
    nnunet_json = raw.nnunet_json | raw.classes.for_nnunet(ignore=True)
    del nnunet_json["numTraining"]  # of all cases, which is not how many a training has
    content = {"plans": plans, "nnunet": nnunet_json, "images": {case.name: case.digest for case in prepared}}
    regions = {"regions": raw.classes.regions} if raw.classes.regions else {}
    write_json(folder / "plans.json", plans)
    write_json(folder / "nnunet_dataset.json", nnunet_json, sort_keys=False)
    write_json(
        folder / "dataset.json",
        {
            "format": FORMAT,
            "version": VERSION,
            "name": settings.name,
            "class_names": list(raw.classes.names),
            "class_values": list(raw.classes.values),
            **regions,
            "channels": list(raw.channels),
            "configuration": settings.configuration,
            "images": content["images"],
            "digest": hashlib.sha256(json.dumps(content | regions, sort_keys=True).encode()).hexdigest(),
        },
    )


def _write_cases(
    folder: Path,
    facts: Sequence[CaseFacts],
    prepared: Sequence[PreparedCase],
    groups: dict[str, str],
    split: dict[str, str],
) -> None:
    crops = {fact.name: fact.crop for fact in facts}
    heads = {fact.name: fact.head for fact in facts}
    rows = [
        (
            case.name, groups[case.name], split[case.name], *case.shape_zyx, *case.spacing_mm,
            *heads[case.name].shape_zyx, *heads[case.name].spacing_mm,
            *grid_row(grid_of_head(heads[case.name], crops[case.name], case.shape_zyx)),
        )
        for case in prepared
    ]  # fmt: skip
    with whole_file(folder / "cases.csv") as temporary:
        pd.DataFrame(rows, columns=[*CASE_COLUMNS, *GRID_COLUMNS]).to_csv(temporary, index=False)


def _write_empty(folder: Path, prepared: Iterable[PreparedCase]) -> None:
    with create_hdf5(folder / "empty.h5", "empty", VERSION, {}) as file:
        for case in prepared:
            file.create_dataset(case.name, data=unpack(case.empty), compression="gzip", chunks=True)
