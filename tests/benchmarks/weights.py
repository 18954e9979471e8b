"""Writes the tables of docs/pages/weights.md from the results of face_weights.

python -m tests.benchmarks.weights
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.benchmarks.tables import EXPORT, LEVELS, NOBODY, between, result, table

PAGE = EXPORT.with_name("weights.md")


def scores(row: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(f"{row[level]:.4f}"[1:] for level in LEVELS)


def changes(row: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    return tuple("{:+.3f} [{:+.3f}, {:+.3f}]".format(*row[level]) for level in LEVELS)


def stamp(kept: Mapping[str, Any]) -> str:
    return f"`{kept['command']}`, {kept['environment']['date']}, {kept['environment']['system']}."


def small() -> str:
    """The shipped network beside the published one of its cost."""
    kept = result("face_weights-small")
    if not kept:
        return f"{NOBODY.capitalize()}: `python -m tests.benchmarks.face_weights small`."
    name, rival = kept["network"], kept["rival"]
    costs = {key: (f"{row['mmac']:.2f}", f"{row['params']:,}") for key, row in kept["cost"].items()}
    tests = [row["test"] for row in kept["seeds"]]
    mean = {level: float(np.mean([row[level] for row in tests])) for level in LEVELS}
    rows = [(rival, *costs[rival], *scores(kept["published"]))]
    rows += [
        (f"{name}, random seed {row['seed']}", *costs[name], *scores(row["test"])) for row in kept["seeds"]
    ]
    rows += [(f"{name}, mean", *costs[name], *scores(mean))]
    change = {k: [d["value"], d["low"], d["high"]] for k, d in kept["difference"].items()}
    rows += [("difference, 95 % interval", "", "", *changes(change))]
    sources = ", ".join(f"{name} {counts['used']:,}" for name, counts in kept["pictures"].items())
    left = sum(counts["left out"] for counts in kept["pictures"].values())
    return (
        f"{table(('network', 'MMAC', 'parameters', *LEVELS), rows)}\n\nPictures trained on: {sources}. "
        f"{left:,} others, in which the teacher is sure of no face, are left out.\n\n"
        f"{stamp(kept)}"
    )


def formats() -> str:
    """The shipped networks in every format."""
    kept = result("face_weights-formats")
    names = [key for key, row in kept.items() if isinstance(row, dict) and isinstance(row.get("torch"), dict)]
    if not names:
        return f"{NOBODY.capitalize()}: `python -m tests.benchmarks.face_weights formats`."
    rungs = [key for key, row in kept[names[0]].items() if isinstance(row, dict) and LEVELS[0] in row]
    rows = [(rung, *(" / ".join(scores(kept[name][rung])) for name in names)) for rung in rungs]
    return f"{table(('easy / medium / hard', *names), rows)}\n\n{stamp(kept)}"


def tried() -> str:
    """Trainings from yoloface-500k-v2's published weights, none of which is shown better."""
    kept = result("face_weights-tried")
    runs = {name: row for name, row in kept.items() if isinstance(row, dict) and "change" in row}
    if not runs:
        return f"{NOBODY.capitalize()}: `python -m tests.benchmarks.face_weights tried`."
    counts = kept["pictures"]
    tables = []
    for part in ("validation", "training"):
        head = (f"change of {kept['network']} on {counts[part]} {part} pictures", *LEVELS)
        tables.append(table(head, [(name, *changes(row["change"][part])) for name, row in runs.items()]))
    return "\n\n".join([*tables, stamp(kept)])


def rewritten(text: str) -> str:
    for mark, made in (("small", small), ("formats", formats), ("tried", tried)):
        text = between(mark, f"\n{made()}\n", text)
    return text


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
