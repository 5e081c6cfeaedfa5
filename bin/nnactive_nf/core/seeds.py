"""Random streams: one per (seed, cycle, stage, key), independent of each other and of any order of work."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_sequence(seed: int, cycle: int, stage: str, *keys: str | int) -> np.random.SeedSequence:
    """Seed sequence for one purpose.

    `keys` tell the streams of one stage apart: a case, a fold, an epoch, a strategy. Words enter by their SHA-256,
    so that the stream does not depend on Python's salted hash or on the place of a word in a list.
    """
    words = [_as_int(stage), *(_as_int(key) for key in keys)]
    return np.random.SeedSequence([int(seed), int(cycle), *words])


def stream(seed: int, cycle: int, stage: str, *keys: str | int) -> np.random.Generator:
    """Generator (PCG64) over `seed_sequence`."""
    return np.random.default_rng(seed_sequence(seed, cycle, stage, *keys))


def _as_int(key: str | int) -> int:
    text = key if isinstance(key, str) else f"int:{int(key)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
