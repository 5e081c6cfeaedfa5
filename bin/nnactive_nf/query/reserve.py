"""Patches that stand ready for those of a query that people refuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nnactive_nf.core.errors import UserError
from nnactive_nf.query.base import TooFewError
from nnactive_nf.query.pool import Candidate, Pool
from nnactive_nf.query.run import Choice, check_picks


def reserve(pool: Pool, choice: Choice, picks: Sequence[Candidate], size: int) -> list[Candidate]:
    """The patches that the strategy chooses next, best first, by the rules that hold for a query.

    Args:
        pool: the pool of the query.
        choice: its strategy.
        picks: what it has chosen.
        size: patches that are wanted; there are fewer where the pool has no more.
    """
    asked = pool if choice.oracle_aware else replace(pool, oracle_file=None)
    while size > 0:
        try:
            found = choice.strategy.more(asked, picks, size)
            check_picks([*picks, *found], pool, len(picks) + len(found))
            return found[:size]
        except TooFewError as error:
            size -= error.lacking
        except UserError as error:  # a user's strategy may know no more, which is no reason to end the run
            pool.log(f"no patches stand ready for refused ones: {error}")
            break
    return []
