"""Milliseconds from a moved widget of notebook 02's sizing desk to the new page, over every switch.

Shows: under 200. Run on a quiet machine: python -m tests.benchmarks.sizing
"""

import time

import numpy as np

from tests.benchmarks.record import options, spread, write
from toolkit.data.catalog import load
from toolkit.widgets import sizing

LIMIT_MS = 200
MOVES = (("se", False), ("csp", False), ("width", 0.75), ("input_size", 224))


def main() -> None:
    given = options("sizing", __doc__.splitlines()[0], "rounds", 5)
    figures = {}
    for data, network in (("toy", "fastest-v2"), ("widerface_val", "yoloface-500k-v2")):
        desk = sizing(load(data), network)
        switches = dict(zip(("se", "csp", "width", "input_size"), desk.children[0].children[1:], strict=True))
        first = {name: switch.value for name, switch in switches.items()}
        times = []
        for _ in range(given.rounds):
            for name, value in (*MOVES, *first.items()):
                begin = time.perf_counter()
                switches[name].value = value
                times.append(1000 * (time.perf_counter() - begin))
        row = {**spread(np.array(times)), "first_ms": round(times[0], 1), "worst_ms": round(max(times), 1)}
        figures[f"{network} on {data}"] = {"moves": len(times), **row, "passed": max(times) < LIMIT_MS}
    write("sizing", given, ["ipywidgets"], figures)


if __name__ == "__main__":
    main()
