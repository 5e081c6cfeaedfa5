"""Class-stratified strategies: a share of the query for each foreground class, the rest for all (ClaSP PE)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import exp, floor, inf

import numpy as np
import numpy.typing as npt
from scipy.special import entr

from nnactive_nf.core.geometry import Box
from nnactive_nf.query.base import Strategy, enough
from nnactive_nf.query.grid import Planes, Scores, planes_of
from nnactive_nf.query.pool import ALL, Candidate, Image, Pool
from nnactive_nf.query.uncertainty import noised

KEPT_BYTES = 1 << 29  # scores of an image's components that are kept in memory; the others are made anew each turn


def shares(count: int, fraction: float, classes: int) -> tuple[int, int]:
    """(patches for all classes together, patches for the rest) of a query or of an image's cap."""
    stratified = floor(count * fraction + 1e-9) if classes else 0
    return stratified, count - stratified


def quotas(size: int, fraction: float, names: Sequence[str], rng: np.random.Generator) -> dict[str, int]:
    """Patches per foreground class: the stratified share equally, what is left over to classes drawn at random."""
    stratified, _ = shares(size, fraction, len(names))
    each, over = divmod(stratified, len(names))
    favoured = set(rng.permutation(len(names))[:over].tolist())
    return {name: each + (place in favoured) for place, name in enumerate(names)}


def caps(per_image: int, fraction: float, names: Sequence[str]) -> dict[str, int]:
    """Most patches of an image: max(1, floor(n f / (C + 1))) per class and max(1, floor(n (1 - f))) unstratified.

    The unstratified part counts as a class in the first. A share of 0 has no patches.
    """
    per_class = max(1, floor(per_image * fraction / (len(names) + 1) + 1e-9)) if fraction > 0 else 0
    rest = max(1, floor(per_image * (1 - fraction) + 1e-9)) if fraction < 1 else 0
    return {**dict.fromkeys(names, per_class), ALL: rest}


def exponential(start: float, end: float, step: int, steps: int) -> float:
    """Beta = start (end / start)^(k / (K - 1)) at step k (from 0) of K."""
    return float(start * (end / start) ** (step / (steps - 1))) if steps > 1 else start


def sigmoid(start: float, end: float, temperature: float, step: int, steps: int) -> float:
    """Beta along 1 / (1 + exp(-x / T)), x from -6 to 6 over the steps, scaled to its end values."""

    def curve(x: float) -> float:
        return 1 / (1 + exp(-x / temperature))

    if steps < 2:
        return start
    low, high = curve(-6), curve(6)
    return start + (end - start) * (curve(-6 + 12 * step / (steps - 1)) - low) / (high - low)


class ClassStratified(Strategy):
    """Components: one per foreground class, scored by the mean of PE p(c) over the patch, and one by the mean of PE.

    Where there are regions they are the classes, each scored by the mean of H(p(r)) p(r), H being the entropy of being
    in it or not, while PE is the mean of these entropies.

    Per image the components take turns in random order, the same in each round, each taking its best patch that no
    other has barred, until it has its cap or the image has given its most. A class has no candidate where its score
    is 0. What classes leave of their caps is added to the unstratified one's.

    Over the pool, each class takes the best of its candidates up to its quota; what it cannot fill goes to the
    unstratified part, which takes the best of its own candidates and, should these run out, of the classes' by PE.

    Args:
        beta: gives the inverse noise scale of an image's query; `None` for no noise.
    """

    def __init__(self, beta: Callable[[Image], float] | None = None) -> None:
        self.beta = beta

    def candidates(self, image: Image) -> list[Candidate]:
        """Candidates of all components."""
        names = image.classes.targets
        left = caps(image.patches_left, float(image.options["class_fraction"]), names)
        most = min(image.patches_left, sum(left.values()))
        if most < 1:
            return []
        scores = _Components(image, partial(self._component, image))
        order = [(*names, ALL)[int(place)] for place in image.rng("order").permutation(len(names) + 1)]
        found: list[Candidate] = []
        while len(found) < most and any(left.values()):
            for component in order:
                if left[component] < 1 or len(found) == most:
                    continue
                best = scores.best(component)
                if best is None:
                    if component != ALL:  # the class leaves its share
                        left[ALL] += left[component]
                    left[component] = 0
                    if component == ALL:  # no position is left for anybody
                        return found
                    continue
                box, score = best
                spare = score if component == ALL else scores.at(ALL, box)
                scores.bar(box)
                found.append(Candidate(image.case, box, score, component, spare))
                left[component] -= 1
        return found

    def _component(self, image: Image, component: str) -> Scores:
        scores = image.mean_scores(self._planes(image, component))
        return scores if self.beta is None else noised(scores, image, self.beta(image), component)

    @staticmethod
    def _planes(image: Image, component: str) -> Planes:
        if component == ALL:
            return planes_of(image.map("predictive_entropy"))
        probability = image.map("mean_probability", (image.classes.channels.index(component),))
        if image.classes.regions:  # a region's own entropy: that of another says nothing of it
            return _of_region(probability)
        return _product(image.map("predictive_entropy"), probability)

    def choose(self, candidates: Sequence[Candidate], pool: Pool, size: int) -> list[Candidate]:
        """Quotas by class, then the rest."""
        names = pool.classes.targets
        quota = quotas(size, float(pool.options["class_fraction"]), names, pool.rng("quotas"))
        ranked = sorted(candidates, key=lambda c: c.key)
        chosen: dict[str, list[Candidate]] = {}
        for name in names:
            chosen[name] = [c for c in ranked if c.component == name][: quota[name]]
            missing = quota[name] - len(chosen[name])
            if missing:
                pool.log(
                    f"class '{name}' fills {len(chosen[name])} of its {quota[name]} patches; "
                    f"{missing} go to the unstratified part"
                )
        rest = size - sum(len(picks) for picks in chosen.values())
        chosen[ALL] = [c for c in ranked if c.component == ALL][:rest]
        if len(chosen[ALL]) < rest:
            chosen[ALL] += _spare(ranked, chosen, rest - len(chosen[ALL]), pool)
        return list(_in_turns(chosen))


def _spare(
    ranked: Sequence[Candidate], chosen: Mapping[str, Sequence[Candidate]], count: int, pool: Pool
) -> list[Candidate]:
    """Candidates of classes that are over, by their unstratified score."""
    used = Counter({name: len(picks) for name, picks in chosen.items()})
    over: list[Candidate] = []
    for candidate in ranked:
        if used[candidate.component]:
            used[candidate.component] -= 1
        elif candidate.component != ALL:
            over.append(candidate._replace(score=candidate.spare, component=ALL))  # type: ignore[arg-type]
    enough(sum(len(picks) for picks in chosen.values()) + len(over), count + sum(map(len, chosen.values())))
    pool.log(f"the unstratified part lacks candidates; {count} of the classes' candidates go to it")
    return sorted(over, key=lambda c: c.key)[:count]


def _in_turns(chosen: Mapping[str, Sequence[Candidate]]) -> Iterator[Candidate]:
    """The best of each component, then the second of each, and so on."""
    for place in range(max(map(len, chosen.values()), default=0)):
        for picks in chosen.values():
            if place < len(picks):
                yield picks[place]


def _product(entropy: npt.NDArray[np.floating], probability: npt.NDArray[np.floating]) -> Planes:
    return lambda z: entropy[z].astype(np.float64) * probability[z]


def _of_region(probability: npt.NDArray[np.floating]) -> Planes:
    def plane(z: int) -> npt.NDArray[np.float64]:
        p = probability[z].astype(np.float64)
        return (entr(p) + entr(1 - p)) * p  # type: ignore[no-any-return]

    return plane


class _Components:
    """Scores of an image's components, kept while they fit into `KEPT_BYTES` and made anew where they do not."""

    def __init__(self, image: Image, make: Callable[[str], Scores]) -> None:
        self._make = make
        self._kept: dict[str, Scores] = {}
        self._boxes: list[Box] = []
        self._most = max(1, KEPT_BYTES // (8 * int(np.prod(image.grid.counts))))

    def _scores(self, component: str) -> Scores:
        if component not in self._kept:
            scores = self._make(component)
            for box in self._boxes:
                scores.bar(box)
            while len(self._kept) >= self._most:
                del self._kept[next(iter(self._kept))]
            self._kept[component] = scores
        return self._kept[component]

    def best(self, component: str) -> tuple[Box, float] | None:
        """Best position of a component; for a class only where its score says something (not 0, not -inf)."""
        scores = self._scores(component)
        found = scores.best()
        if found is None or component == ALL:
            return found
        nothing = 0.0 if scores.holds_sums else -inf
        return None if found[1] == nothing else found

    def at(self, component: str, box: Box) -> float:
        """Score of a component at a position that is not barred yet."""
        return self._scores(component).at(box)

    def bar(self, box: Box) -> None:
        """Bar what intersects a patch for all components."""
        self._boxes.append(box)
        for scores in self._kept.values():
            scores.bar(box)
