"""`replay`: the queries of an earlier run, patch by patch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Box, as_shape, intersects
from nnactive_nf.core.query_table import read_query
from nnactive_nf.query.base import Strategy
from nnactive_nf.query.pool import Candidate, Pool


class Replay(Strategy):
    """The first `size` rows of `query_cNN.csv` of this cycle in a folder; `{seed}` in its path stands for the seed."""

    def query(self, pool: Pool, size: int) -> list[Candidate]:
        """Patches of the earlier run, checked against this one's images and labels."""
        folder = Path(str(pool.options["path"]).replace("{seed}", str(pool.seed)))
        path = folder / f"query_c{pool.cycle:02d}.csv"
        table = read_query(path).sort_values("rank")
        if len(table) < size:
            raise UserError(f"{path}: holds {len(table)} patches, the query wants {size}")
        chosen: list[Candidate] = []
        for row in table.head(size).itertuples():
            box = Box(as_shape((row.z, row.y, row.x)), as_shape((row.dz, row.dy, row.dx)))
            if row.case not in pool.cases:
                raise UserError(f"{path}: case {row.case} is not in the pool of {pool.dataset.name}")
            image = pool.image(row.case)
            if not box.inside(image.shape_zyx):
                raise UserError(f"{path}: patch {row.rank} of case {row.case} lies outside its image {image.shape_zyx}")
            if any(intersects(box, other) for other in image.boxes + [c.box for c in chosen if c.case == row.case]):
                raise UserError(
                    f"{path}: patch {row.rank} of case {row.case} intersects a labelled one; "
                    "a replay needs the start and the earlier queries of the same run"
                )
            chosen.append(Candidate(row.case, box, float(row.score), row.component))
        return chosen

    def more(self, pool: Pool, picks: Sequence[Candidate], size: int) -> list[Candidate]:  # noqa: ARG002
        """None: an earlier run's patches are those that were labelled."""
        return []
