"""Brute-force twins of the query strategies: the formulas of the design in plain loops, one position at a time.

Nothing here uses running sums, masks or argmax. Only the random streams (`core.seeds`) are shared with the code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from nnactive_nf.core.seeds import stream

ONE = 2**32
ALL = "all"

Start = tuple[int, int, int]
Score = dict[Start, float]
Pick = tuple[str, Start, str, float]  # case, start, component, score


class TooFewError(Exception):
    """Fewer candidates than the query wants."""


@dataclass
class Case:
    """One image: its shape, what is labelled, free voxels, maps, ground truth."""

    shape: Start
    boxes: list[tuple[Start, Start]] = field(default_factory=list)
    free: np.ndarray | None = None
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    truth: np.ndarray | None = None
    image: np.ndarray | None = None


@dataclass
class Problem:
    """Images and rules of one query."""

    cases: dict[str, Case]
    patch: Start
    stride: Start
    per_image: int
    free_overlap: float
    seed: int
    cycle: int
    cycles: int
    strategy: str
    size: int
    names: tuple[str, ...] = ("background", "head", "tail")
    class_values: tuple[int, ...] = (0, 2, 7)
    regions: tuple[tuple[str, tuple[int, ...]], ...] = ()  # name and values; maps have a channel for each

    def targets(self) -> list[tuple[str, tuple[int, ...], int]]:
        """Name, values and channel of what is to be found."""
        if self.regions:
            return [(name, values, place) for place, (name, values) in enumerate(self.regions)]
        return [(self.names[i], (self.class_values[i],), i) for i in range(1, len(self.names))]

    def patch_in(self, case: Case) -> Start:
        return tuple(min(p, n) for p, n in zip(self.patch, case.shape, strict=True))

    def starts(self, case: Case, stride_zyx: Start | None = None) -> list[Start]:
        axes = []
        for patch, length, stride in zip(self.patch_in(case), case.shape, stride_zyx or self.stride, strict=True):
            last = length - patch
            axes.append([s for s in range(last + 1) if s % stride == 0 or s == last])
        return list(product(*axes))

    def rng(self, *keys: str) -> np.random.Generator:
        return stream(self.seed, self.cycle, "query", self.strategy, *keys)


def voxels(start: Start, size: Start) -> Iterator[Start]:
    return product(*(range(a, a + n) for a, n in zip(start, size, strict=True)))


def overlap(start_a: Start, size_a: Start, start_b: Start, size_b: Start) -> bool:
    return bool(set(voxels(start_a, size_a)) & set(voxels(start_b, size_b)))


def mean(plane: Callable[[Start], float], start: Start, size: Start) -> float:
    """Mean over the patch of values rounded to 2^-32; whole numbers are exact and divided with one rounding."""
    total = sum(round(plane(v) * ONE) for v in voxels(start, size))
    return total / (math.prod(size) * ONE)


def may_take(problem: Problem, case: Case, start: Start, taken: list[Start]) -> bool:
    size = problem.patch_in(case)
    if any(overlap(start, size, a, n) for a, n in case.boxes) or any(overlap(start, size, a, size) for a in taken):
        return False
    if case.free is None:
        return True
    free = sum(bool(case.free[v]) for v in voxels(start, size))
    return free <= problem.free_overlap * math.prod(size) + 1e-9


def scores(problem: Problem, case: Case, value: Callable[[Start], float]) -> Score:
    size = problem.patch_in(case)
    return {start: mean(value, start, size) for start in problem.starts(case)}


def take(problem: Problem, case: Case, score: Score, count: int) -> list[tuple[Start, float]]:
    """Best first, skipping what may not be taken."""
    taken: list[tuple[Start, float]] = []
    for start in sorted(score, key=lambda s: (-score[s], s)):
        if len(taken) < count and may_take(problem, case, start, [a for a, _ in taken]):
            taken.append((start, score[start]))
    return taken


def best(problem: Problem, found: list[Pick]) -> list[Pick]:
    if len(found) < problem.size:
        raise TooFewError(len(found))
    return sorted(found, key=lambda p: (-p[3], p[0], p[1]))[: problem.size]


def entropy(case: Case, name: str) -> Callable[[Start], float]:
    if name != "mutual_information":
        return lambda v: float(case.maps[name][v])
    pe, ee = case.maps["predictive_entropy"], case.maps["expected_entropy"]
    return lambda v: max(float(pe[v]) - float(ee[v]), 0.0)


def log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def by_score(problem: Problem, score: Callable[[str, Case], Score]) -> list[Pick]:
    found = []
    for name, case in problem.cases.items():
        found += [(name, s, ALL, v) for s, v in take(problem, case, score(name, case), problem.per_image)]
    return best(problem, found)


def mean_of_map(problem: Problem, map_name: str) -> list[Pick]:
    return by_score(problem, lambda _, case: scores(problem, case, entropy(case, map_name)))


def noised(problem: Problem, name: str, component: str, score: Score, beta: float) -> Score:
    rng = problem.rng(name, component)
    return {start: log(value) + rng.gumbel(0, 1 / beta) for start, value in score.items()}


def power(problem: Problem, map_name: str, beta: float) -> list[Pick]:
    return by_score(
        problem,
        lambda name, case: noised(problem, name, ALL, scores(problem, case, entropy(case, map_name)), beta),
    )


def softrank(problem: Problem) -> list[Pick]:
    """Ranks over the best patches (twice the cap) of all images together."""
    plain: list[Pick] = []
    for name, case in problem.cases.items():
        score = scores(problem, case, entropy(case, "mutual_information"))
        plain += [(name, s, ALL, v) for s, v in take(problem, case, score, 2 * problem.per_image)]
    possible = sum(min(problem.per_image, sum(p[0] == name for p in plain)) for name in problem.cases)
    if possible < problem.size:
        raise TooFewError(possible)
    drawn: list[Pick] = []
    for name in problem.cases:
        rng = problem.rng(name, ALL)
        for case, start, component, value in plain:
            if case == name:
                rank = 1 + sum(other[3] > value for other in plain)
                drawn.append((name, start, component, -math.log(rank) + rng.gumbel(0, 1)))
    chosen: list[Pick] = []
    for pick in sorted(drawn, key=lambda p: (-p[3], p[0], p[1])):
        if len(chosen) < problem.size and sum(other[0] == pick[0] for other in chosen) < problem.per_image:
            chosen.append(pick)
    return chosen


def expected_dice(problem: Problem) -> list[Pick]:
    def score(_: str, case: Case) -> Score:
        p = case.maps["fold_probability"].astype(np.float64)
        size = problem.patch_in(case)
        result = {}
        for start in problem.starts(case):
            total, terms = 0.0, 0
            for c in range(p.shape[1]):
                for m in range(p.shape[0]):
                    shared = both = 0
                    for v in voxels(start, size):
                        middle = sum(float(p[(k, c, *v)]) for k in range(p.shape[0])) / p.shape[0]
                        shared += round(float(p[(m, c, *v)]) * middle * ONE)
                        both += round(float(p[(m, c, *v)]) * ONE) + round(middle * ONE)
                    total += 2.0 * float(shared) / float(both) if both else 1.0
                    terms += 1
            result[start] = -total / terms
        return result

    return by_score(problem, score)


def stratified(problem: Problem, fraction: float, beta: float | None) -> list[Pick]:
    """Components take turns in each image; quotas over the pool; what classes cannot fill is unstratified."""
    classes = [label for label, _, _ in problem.targets()]
    found: list[tuple[Pick, float]] = []
    for name, case in problem.cases.items():
        pe = case.maps["predictive_entropy"]
        component: dict[str, Score] = {}
        for label, _, channel in problem.targets():
            p = case.maps["mean_probability"][channel]
            if problem.regions:
                component[label] = scores(problem, case, lambda v, p=p: in_or_out(float(p[v])) * float(p[v]))
            else:
                component[label] = scores(problem, case, lambda v, p=p, pe=pe: float(pe[v]) * float(p[v]))
        component[ALL] = scores(problem, case, lambda v, pe=pe: float(pe[v]))
        if beta is not None:
            component = {label: noised(problem, name, label, s, beta) for label, s in component.items()}
        n = problem.per_image
        left = {
            label: max(1, math.floor(n * fraction / (len(classes) + 1) + 1e-9)) if fraction else 0 for label in classes
        }
        left[ALL] = max(1, math.floor(n * (1 - fraction) + 1e-9)) if fraction < 1 else 0
        most = min(n, sum(left.values()))
        order = [(*classes, ALL)[i] for i in problem.rng(name, "order").permutation(len(classes) + 1)]
        taken: list[Start] = []
        nothing = 0.0 if beta is None else -math.inf
        running = True
        while running and len(taken) < most and sum(left.values()):
            for label in order:
                if not left[label] or len(taken) == most:
                    continue
                ranked = sorted(component[label], key=lambda s, c=component[label]: (-c[s], s))
                there = [s for s in ranked if may_take(problem, case, s, taken)]
                if label != ALL:
                    there = [s for s in there if component[label][s] > nothing]
                if there:
                    found.append(((name, there[0], label, component[label][there[0]]), component[ALL][there[0]]))
                    taken.append(there[0])
                    left[label] -= 1
                elif label == ALL:
                    running = False
                    break
                else:
                    left[ALL] += left[label]
                    left[label] = 0
    share = math.floor(problem.size * fraction + 1e-9)
    quota = {label: share // len(classes) for label in classes}
    for place in problem.rng("pool", "quotas").permutation(len(classes))[: share % len(classes)]:
        quota[classes[place]] += 1
    if len(found) < problem.size:
        raise TooFewError(len(found))
    parts: dict[str, list[Pick]] = {}
    unused: list[Pick] = []
    for label in classes:
        mine = sorted((f for f in found if f[0][2] == label), key=lambda f: (-f[0][3], f[0][0], f[0][1]))
        parts[label] = [f[0] for f in mine[: quota[label]]]
        unused += [(f[0][0], f[0][1], ALL, f[1]) for f in mine[quota[label] :]]
    rest = problem.size - sum(map(len, parts.values()))
    key = lambda p: (-p[3], p[0], p[1])  # noqa: E731
    parts[ALL] = sorted((f[0] for f in found if f[0][2] == ALL), key=key)[:rest]
    parts[ALL] += sorted(unused, key=key)[: rest - len(parts[ALL])]
    return [part[i] for i in range(problem.size) for part in parts.values() if i < len(part)]


def in_or_out(p: float) -> float:
    """Entropy of lying in a region or not."""
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)


def exponential_beta(problem: Problem) -> float:
    """1 at the query that labels cycle 1, 100 one step after the last one."""
    return 100 ** ((problem.cycle - 1) / (problem.cycles - 1))


def sigmoid_beta(problem: Problem, temperature: float) -> float:
    first, at, last = (
        1 / (1 + math.exp(-x / temperature)) for x in (-6, 12 * (problem.cycle - 1) / (problem.cycles - 1) - 6, 6)
    )
    return 1 + 99 * (at - first) / (last - first)


def kmeans_bald(problem: Problem, factor: int, cell: int = 4) -> list[Pick]:
    ranked: list[tuple[Pick, list[float]]] = []
    for name, case in problem.cases.items():
        size = problem.patch_in(case)
        plain = scores(problem, case, entropy(case, "mutual_information"))
        features = case.maps["fold_features"]
        for start, value in take(problem, case, plain, factor * problem.per_image):
            at = [tuple(i // cell for i in v) for v in voxels(start, size)]
            ranked.append(
                ((name, start, ALL, value), [float(np.mean([f[i] for i in at], dtype=float)) for f in features])
            )
    ranked.sort(key=lambda r: (-r[0][3], r[0][0], r[0][1]))
    per_case = {name: sum(r[0][0] == name for r in ranked) for name in problem.cases}
    most = sum(min(n, problem.per_image) for n in per_case.values())
    if most < problem.size:
        raise TooFewError(most)
    columns = list(zip(*(f for _, f in ranked), strict=True))
    spread = [float(np.std(c)) for c in columns]
    points = [
        [x / s if s > 1e-12 * max(map(abs, c)) else 0.0 for x, s, c in zip(f, spread, columns, strict=True)]
        for _, f in ranked
    ]
    chosen: list[int] = []
    while len(chosen) < problem.size:
        open_ = [
            i
            for i in range(len(ranked))
            if i not in chosen and sum(ranked[j][0][0] == ranked[i][0][0] for j in chosen) < problem.per_image
        ]
        away = {
            i: min(math.dist(points[i], points[j]) for j in chosen) if chosen else math.hypot(*points[i]) for i in open_
        }
        chosen.append(max(open_, key=lambda i: (away[i], -i)))
    return [ranked[i][0] for i in chosen]


TRIES = 64


def draw(rng: np.random.Generator, count: int, allowed: Callable[[int], bool]) -> int | None:
    for _ in range(TRIES if count else 0):
        place = int(rng.integers(count))
        if allowed(place):
            return place
    places = [i for i in range(count) if allowed(i)]
    return places[rng.integers(len(places))] if places else None


def border(mask: np.ndarray) -> np.ndarray:
    """Voxels of the mask with one of 6 neighbours outside it or outside the image."""
    result = np.zeros_like(mask)
    for v in np.argwhere(mask):
        for axis, step in product(range(3), (-1, 1)):
            w = v.copy()
            w[axis] += step
            if w[axis] < 0 or w[axis] >= mask.shape[axis] or not mask[tuple(w)]:
                result[tuple(v)] = True
    return result


def around(problem: Problem, case: Case, centre: Start) -> Start:
    size = problem.patch_in(case)
    return tuple(min(max(c - n // 2, 0), s - n) for c, n, s in zip(centre, size, case.shape, strict=True))


def centred(
    problem: Problem, case: Case, mask: np.ndarray, taken: list[Start], rng: np.random.Generator
) -> Start | None:
    points = [tuple(int(i) for i in v) for v in np.argwhere(mask)]
    place = draw(rng, len(points), lambda i: may_take(problem, case, around(problem, case, points[i]), taken))
    return None if place is None else around(problem, case, points[place])


def draws_of(problem: Problem, name: str, parts: tuple[int, int, int], count: int) -> list[Pick]:
    """The first patches of an image by a random strategy."""
    case = problem.cases[name]
    rng = problem.rng(name, ALL)
    aware = sum(parts[1:]) > 0
    masks = [(label, np.isin(case.truth, values)) for label, values, _ in problem.targets()]
    present = [(label, mask) for label, mask in masks if aware and mask.any()]
    picks: list[Pick] = []
    while len(picks) < count:
        taken = [p[1] for p in picks]
        kind = int(rng.integers(sum(parts)))
        found = None
        if kind >= parts[0]:
            for place in rng.permutation(len(present)):
                label, mask = present[place]
                start = centred(problem, case, border(mask) if kind >= parts[0] + parts[1] else mask, taken, rng)
                if start is not None:
                    found = (name, start, label, 0.0)
                    break
        if found is None:
            starts = problem.starts(case, (1, 1, 1))
            place = draw(rng, len(starts), lambda i, s=starts, t=taken: may_take(problem, case, s[i], t))
            if place is None:
                break
            found = (name, starts[place], ALL, 0.0)
        picks.append(found)
    return picks


def randomly(problem: Problem, parts: tuple[int, int, int]) -> list[Pick]:
    """Images in shuffled rounds."""
    rng = problem.rng("pool", "rounds")
    names = list(problem.cases)
    lists = {name: draws_of(problem, name, parts, problem.per_image) for name in names}
    picks: list[Pick] = []
    for place in range(problem.per_image):
        for i in rng.permutation(len(names)):
            if len(picks) < problem.size and place < len(lists[names[i]]):
                picks.append(lists[names[i]][place])
        if len(picks) == problem.size:
            return picks
    raise TooFewError(len(picks))


def coverage(problem: Problem, most: int) -> list[Pick]:
    """k-means++ over intensity and gradient features of a tiling."""
    tiles: list[tuple[str, Start, list[float]]] = []
    for name, case in problem.cases.items():
        size = problem.patch_in(case)
        axes: list[list[int]] = [[], [], []]
        for start in problem.starts(case):
            for axis in range(3):
                kept = axes[axis]
                if start[axis] not in kept and (not kept or start[axis] >= kept[-1] + size[axis]):
                    kept.append(start[axis])
        mine = [s for s in product(*axes) if may_take(problem, case, s, [])]
        rng = problem.rng(name, ALL)
        if len(mine) > most:
            mine = [mine[i] for i in sorted(rng.permutation(len(mine))[:most])]
        for start in mine:
            features = []
            for channel in case.image.astype(np.float64):
                values = [channel[v] for v in voxels(start, size)]
                middle = sum(values) / len(values)
                features += [middle, math.sqrt(sum((x - middle) ** 2 for x in values) / len(values))]
                for axis in range(3):
                    steps = [
                        abs(channel[tuple(i + (a == axis) for a, i in enumerate(v))] - channel[v])
                        for v in voxels(start, size)
                        if v[axis] + 1 < start[axis] + size[axis]
                    ]
                    features.append(sum(steps) / len(steps) if steps else 0.0)
            tiles.append((name, start, features))
    tiles.sort(key=lambda t: t[:2])
    possible = sum(min(problem.per_image, sum(t[0] == name for t in tiles)) for name in problem.cases)
    if possible < problem.size:
        raise TooFewError(possible)
    columns = list(zip(*(t[2] for t in tiles), strict=True))
    middles, spreads = [float(np.mean(c)) for c in columns], [float(np.std(c)) for c in columns]
    points = [
        [
            (x - m) / s if s > 1e-12 * max(map(abs, c)) else 0.0
            for x, m, s, c in zip(t[2], middles, spreads, columns, strict=True)
        ]
        for t in tiles
    ]
    rng = problem.rng("pool", "choose")
    chosen: list[int] = []
    picks: list[Pick] = []
    while len(chosen) < problem.size:
        room = [
            i not in chosen and sum(tiles[j][0] == tiles[i][0] for j in chosen) < problem.per_image
            for i in range(len(tiles))
        ]
        away = [
            min(sum((a - b) ** 2 for a, b in zip(p, points[j], strict=True)) for j in chosen) if chosen else 1.0
            for p in points
        ]
        weight = [a if r else 0.0 for a, r in zip(away, room, strict=True)]
        if not any(weight):
            weight = [float(r) for r in room]
        target = rng.random() * sum(weight)
        running, place = 0.0, -1
        for i, w in enumerate(weight):
            running += w
            if w and place < 0 and running > target:
                place = i
        picks.append((tiles[place][0], tiles[place][1], ALL, math.sqrt(away[place]) if chosen else 0.0))
        chosen.append(place)
    return picks
