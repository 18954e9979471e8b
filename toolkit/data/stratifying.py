"""Groups of pictures shared out to splits, so that every class has its part in each.

Iterative stratification (Sechidis et al. 2011, doi:10.1007/978-3-642-23808-6_10): class by class, the rarest
first, each group goes where most of the class is still wanted. Then single groups move where that brings the
splits nearer to their sizes and does not take a class from a split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Counts = NDArray[np.float64]
TOLERANCE = 1.2  # times its size to which a split may grow for the sake of a rare class


def stratified(
    sizes: NDArray[np.int64], classes: csr_array, fractions: Sequence[float], seed: int = 0
) -> NDArray[np.int64]:
    """The split of each group.

    A class of one group stays in split 0, one of two groups is in split 0 and 1, and so on, as far as the
    splits stay near their sizes. Split 0 is never empty.

    Args:
        sizes: (g,) pictures of each group.
        classes: (g, c) how many of them have a class; a picture may have several.
        fractions: of all pictures, that the splits get; split 0 is the one to train on.
        seed: of the order among equals.

    Returns:
        (g,) numbers of splits.

    >>> both = csr_array([[1, 0]] * 9 + [[0, 1]])
    >>> np.bincount(stratified(np.ones(10, int), both, [0.8, 0.2])).tolist()
    [8, 2]
    >>> int(stratified(np.ones(10, int), both, [0.8, 0.2])[9])
    0
    """
    parts = np.asarray(fractions, np.float64)
    order = np.random.default_rng(seed).permutation(len(sizes))
    large = sizes > max(1, min(parts[parts > 0]) * sizes.sum())  # first: they find no room later
    order = order[np.argsort(-(sizes * large)[order], kind="stable")]
    sharing = _Sharing(sizes[order], csr_array(classes[order]), parts)
    sharing.share_out()
    sharing.fill_empty()
    sharing.repair()
    splits = np.zeros(len(sizes), np.int64)
    splits[order] = sharing.splits
    return splits


@dataclass(eq=False)
class _Sharing:
    """Groups on their way to splits, in this order."""

    sizes: NDArray[np.int64]  # (g,)
    classes: csr_array  # (g, c)
    fractions: Counts  # (s,)

    def __post_init__(self) -> None:
        total = float(self.sizes.sum())
        asked = np.flatnonzero(self.fractions > 0)
        asked = asked[asked > 0][: max(0, len(self.sizes) - 1)]  # a group each, and one stays in split 0
        self.asked = np.isin(np.arange(len(self.fractions)), [0, *asked])
        self.fractions = np.where(self.asked, self.fractions, 0)
        self.targets = self.fractions * total
        self.targets[asked] = np.maximum(self.targets[asked], 1)
        self.targets[0] = total - self.targets[1:].sum()
        in_class = np.asarray(self.classes.sum(axis=0), np.float64).ravel()
        groups = np.bincount(self.classes.indices, minlength=self.classes.shape[1])
        self.desired = np.outer(self.fractions, in_class)
        self.least = np.zeros_like(self.desired)  # pictures of a class that a split keeps once it has them
        self.least[0] = groups > 0
        for rank, split in enumerate(asked, 2):
            self.least[split] = groups >= rank
        self.desired[1:] = np.maximum(self.desired[1:], self.least[1:])
        self.desired[0] = in_class - self.desired[1:].sum(axis=0)
        self.splits = np.full(len(self.sizes), -1)
        self.taken = np.zeros(len(self.targets))
        self.had = np.zeros_like(self.desired)

    def row(self, group: int) -> tuple[NDArray[np.int64], Counts]:
        """The classes of a group, and how many pictures have them."""
        inside = slice(self.classes.indptr[group], self.classes.indptr[group + 1])
        return self.classes.indices[inside], self.classes.data[inside].astype(np.float64)

    def put(self, group: int, split: int) -> None:
        columns, counts = self.row(group)
        before = self.splits[group]
        if before >= 0:
            self.taken[before] -= self.sizes[group]
            self.had[before, columns] -= counts
        self.splits[group] = split
        self.taken[split] += self.sizes[group]
        self.had[split, columns] += counts

    def share_out(self) -> None:
        """Every group to a split."""
        columns = self.classes.tocsc()
        left = np.diff(columns.indptr)
        while left.max(initial=0) > 0:
            rarest = int(np.where(left > 0, left, left.max() + 1).argmin())
            for group in columns.indices[columns.indptr[rarest] : columns.indptr[rarest + 1]].tolist():
                if self.splits[group] < 0:
                    mine = self.row(group)[0]
                    last = (left[mine] == 1) & (self.had[0, mine] < self.least[0, mine])
                    lack = self.desired[:, rarest] - self.had[:, rarest]
                    self.put(group, 0 if last.any() else self.choice(group, lack))
                    left[mine] -= 1
        for group in np.flatnonzero(self.splits < 0).tolist():  # no class at all
            self.put(group, self.choice(group, np.zeros(len(self.targets))))

    def choice(self, group: int, lack: Counts) -> int:
        """The split that lacks most; among equals, the one that is further from its size."""
        room = np.maximum(self.targets * TOLERANCE, self.targets + 1) - self.taken >= self.sizes[group]
        room[0] = True
        room &= self.asked
        rest = np.where(room, self.targets - self.taken, -np.inf)
        lack = np.where(room, np.round(lack, 6), -np.inf)
        return max(range(len(lack)), key=lambda split: (lack[split], rest[split], -split))

    def fill_empty(self) -> None:
        """A group for each split that got none: of those that split 0 can spare, the one of the best size."""
        for split in np.flatnonzero(self.asked & (self.taken == 0)):
            spare = np.flatnonzero((self.splits == 0) & ~self._takes_last(0))
            if split and len(spare) and (self.splits == 0).sum() > 1:
                self.put(int(spare[np.abs(self.sizes[spare] - self.targets[split]).argmin()]), int(split))

    def _takes_last(self, split: int) -> NDArray[np.bool_]:
        """(g,) whether the split would lose the least that it keeps of a class with that group."""
        matrix = self.classes
        groups = np.repeat(np.arange(len(self.sizes)), np.diff(matrix.indptr))
        short = self.had[split, matrix.indices] - matrix.data < self.least[split, matrix.indices]
        return np.bincount(groups[short], minlength=len(self.sizes)) > 0

    def repair(self) -> None:
        """Groups from the split that is most above its size to the one most below, as long as that helps."""
        for _ in range(len(self.sizes)):
            excess = self.taken - self.targets
            over, under = int(excess.argmax()), int(excess.argmin())
            sizes = self.sizes.astype(np.float64)
            gain = excess[over] ** 2 + excess[under] ** 2
            gain = gain - (excess[over] - sizes) ** 2 - (excess[under] + sizes) ** 2
            movable = (self.splits == over) & (gain > 1e-9) & ~self._takes_last(over)
            movable &= sizes < self.taken[over]
            if not movable.any():
                return
            # Squared distances of the classes from what is desired, by how many pictures they have.
            weight = 1 / np.maximum(self.desired.sum(axis=0), 1)
            away = (self.had - self.desired)[[over, under]]
            cost = self.classes.power(2) @ (2 * weight) - self.classes @ (2 * weight * (away[0] - away[1]))
            best = np.flatnonzero(movable)
            self.put(int(best[np.lexsort((-gain[best], cost[best]))[0]]), under)
