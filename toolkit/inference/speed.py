"""Networks timed in turn on this machine, on one input."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toolkit.models.network import Network
from toolkit.stopwatch import interleave, paired_ratio
from toolkit.tables import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Speeds(dict[str, NDArray[np.float64]], Shown):
    """Name -> milliseconds (rounds,); round i of one was next to round i of another."""

    def caption(self) -> str:
        """What was timed."""
        rounds = len(next(iter(self.values())))
        return f"The network alone, one picture, {rounds} rounds in turn on this machine"

    def columns(self) -> dict[str, list[object]]:
        """Medians with quartiles, and times by those of the first, with 95 % intervals."""
        names, times = list(self), list(self.values())
        low, middle, high = np.percentile(times, [25, 50, 75], axis=1)
        return {
            "network": list(names),
            "median, ms": [f"{m:.2f}" for m in middle],
            "quartiles, ms": [f"{a:.2f} to {b:.2f}" for a, b in zip(low, high, strict=True)],
            "pictures/s": [f"{1000 / m:.0f}" for m in middle],
            f"time / time of {names[0]} [95 %]": [str(paired_ratio(each, times[0])) for each in times],
        }

    def figure(self) -> Figure:
        """Medians and quartiles."""
        from toolkit import viz

        low, middle, high = np.percentile(list(self.values()), [25, 50, 75], axis=1)
        errors = np.array([middle - low, high - middle])
        return viz.bars(list(self), middle, errors, "ms, median and quartiles", form="{:.1f}")


def speeds(
    networks: Mapping[str, Network], x: NDArray[np.float32], seconds: float = 3.0, seed: int = 0
) -> Speeds:
    """Times networks in turn, so that other load on the machine affects all of them alike. Decoding and
    suppression are not included.

    Args:
        networks: name -> network, on any engine.
        x: (1, C, H, W), as the networks take it.
        seconds: shortest duration.
        seed: of the order of the turns.

    Raises:
        InputError: there is nothing to time.

    >>> from toolkit import create_model
    >>> x = np.zeros((1, 3, 56, 56), np.float32)
    >>> list(speeds({"torch": create_model("yoloface-50k")}, x, 0.1))
    ['torch']
    """
    calls = {name: partial(network.predict, x) for name, network in networks.items()}
    return Speeds(interleave(calls, seconds, seed=seed))
