"""How many tasks a plan has."""

from __future__ import annotations

from collections.abc import Sequence

from nnactive_nf.core.budget import query_size_of
from nnactive_nf.forecast.plan import Group, Row

# The stages that are counted by row; the others run once, or once per data set.
STAGES = ("QUERY", "VIEWS", "ANNOTATE", "TRAIN", "PREDICT", "EVALUATE", "EXPORT", "SEGMENT")


def row_counts(group: Group) -> dict[str, int]:
    """Tasks of a row by stage, and its nodes, trajectories and patches that are labelled in all."""
    row, nodes = group.row, group.nodes
    queries = 0 if row.whole_pool else len(nodes)
    sizes = [row.start_size if node.cycle == 0 else query_size_of(row.query_size, node.cycle) for node in nodes]
    return {
        "QUERY": queries,
        "VIEWS": queries if row.view_patches else 0,
        "ANNOTATE": len(nodes),
        "TRAIN": group.trainings,
        "PREDICT": sum(len(node.asked) for node in nodes) * row.shards,
        "EVALUATE": len(nodes),
        "EXPORT": row.exports,
        "SEGMENT": row.segments,
        "nodes": len(nodes),
        "trajectories": len(row.strategies) * len(row.seeds),
        "patches": 0 if row.whole_pool else sum(sizes),
    }


def once_counts(groups: Sequence[Group]) -> dict[str, int]:
    """Tasks of the stages that run once per data set, and of those that run once."""
    datasets = one_row_each(groups)
    made = {
        stage: sum(1 for row in datasets.values() if row.source == source)
        for stage, source in (("PHANTOM", "phantom"), ("DOWNLOAD", "download"))
    }
    return {stage: number for stage, number in made.items() if number} | {
        "CHECK": len(datasets),
        "PREPARE": len(datasets),
        "ANALYSE": 1,
        "REPORT": 1,
        "PROTOCOL": 1 + len(datasets),
    }


def one_row_each(groups: Sequence[Group]) -> dict[str, Row]:
    """The first row of each data set, in which they agree on what the data are."""
    rows: dict[str, Row] = {}
    for group in groups:
        rows.setdefault(group.row.dataset, group.row)
    return rows


def all_tasks(groups: Sequence[Group]) -> int:
    """Number of all tasks."""
    return sum(once_counts(groups).values()) + sum(row_counts(group)[stage] for group in groups for stage in STAGES)


def all_trainings(groups: Sequence[Group]) -> int:
    """Number of all trainings."""
    return sum(group.trainings for group in groups)
