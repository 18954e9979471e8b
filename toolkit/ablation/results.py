"""Results of a study that show themselves: its networks, and the effects of its factors."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit import viz
from toolkit.ablation.effects import LEVEL, Effect, level_text, mean_intervals, words
from toolkit.ablation.plan import Plan
from toolkit.tables import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Line = Mapping[str, Any]
COSTS = {
    "latency_ms": "ncnn, ms",
    "mmac": "MMAC",
    "bflops": "BFLOPs",
    "kilobytes": "kB",
    "params": "parameters",
}
UNDRAWN = ("params", "bflops")  # one looks like kilobytes, the other like MMAC
MATCHINGS = {"as-is": "networks as they are", "width": "networks matched by width"}
STATISTICS = ("matching", "seeds", "scores", "mean", "low", "high", "sd", "intervals", "fault")
PANELS = 6  # of pairs of factors in one picture


def study_table(
    rows: Sequence[Line], score: str = "score", costs: Mapping[str, str] = COSTS
) -> list[dict[str, Any]]:
    """The networks of a study: score over the seeds, and costs.

    Args:
        rows: cells, from `toolkit.ablation.report.runs`.
        score: the score to average.
        costs: field of a row -> title, for the costs to include.

    Returns:
        One line per combination of levels and matching: its levels as text, "matching", "seeds", "scores" of
        the seeds, their "mean" and "sd", "low" and "high" of the mean's 95 % interval (None if too few
        finished), costs, "intervals" of costs that were measured, "fault".

    >>> rows = [{"levels": {"se": True}, "seed": s, "score": 0.5 + s / 10} for s in range(2)]
    >>> (line,) = study_table(rows)
    >>> line["se"], line["seeds"], round(line["mean"], 2)
    ('on', 2, 0.55)
    """
    groups: dict[str, list[Line]] = {}
    for row in rows:
        groups.setdefault(json.dumps([row["levels"], row.get("matching", "as-is")]), []).append(row)
    scores = [[float(row[score]) for row in group if "fault" not in row] for group in groups.values()]
    lines = []
    for group, values, estimate in zip(groups.values(), scores, mean_intervals(scores), strict=True):
        mean, low, high = (None if np.isnan(value) else float(value) for value in estimate)
        first = group[0]
        lines.append(
            {
                **{name: level_text(level) for name, level in first["levels"].items()},
                "matching": first.get("matching", "as-is"),
                "seeds": len(values),
                "scores": values,
                "mean": mean,
                "low": low,
                "high": high,
                "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
                **{cost: first[cost] for cost in costs if cost in first},
                "intervals": _measured(first),
                "fault": next((str(row["fault"]) for row in group if "fault" in row), ""),
            }
        )
    return lines


def _measured(row: Line) -> dict[str, list[float]]:
    """Intervals of the costs of a cell that were measured."""
    intervals = dict(row.get("intervals", {}))
    if "latency_low_ms" in row:
        intervals["latency_ms"] = [row["latency_low_ms"], row["latency_high_ms"]]
    return intervals


def network_name(line: Line, costs: Mapping[str, str] = COSTS) -> str:
    """The levels of a line in few words: the factors that are on, and whether its width was matched."""
    levels = {name: level for name, level in line.items() if name not in (*STATISTICS, *costs)}
    return words(levels) + (" (width)" if line["matching"] == "width" else "")


def _number(value: float | None, interval: Sequence[float] | None = None) -> str:
    if value is None:
        return "not measured"
    text = f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
    return text if interval is None else f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


@dataclass(frozen=True, eq=False)
class Networks(Shown):
    """The networks of a study with their scores and costs, of as many cells as have ended.

    Attributes:
        lines: from `study_table`.
        score: name of the score.
        costs: field of a line -> title.
        cells: number of cells of the study; None where a search has no fixed number.
        ended: number of cells that have ended.
        seconds_left: estimate; None if the study does not run.
    """

    lines: Sequence[Line]
    score: str
    costs: Mapping[str, str]
    cells: int | None
    ended: int
    seconds_left: float | None = None

    @property
    def names(self) -> list[str]:
        """Of the networks, one for each line."""
        return [network_name(line, self.costs) for line in self.lines]

    @property
    def best(self) -> int | None:
        """Index of the line with the highest mean."""
        done = [i for i, line in enumerate(self.lines) if line["mean"] is not None]
        return max(done, key=lambda i: self.lines[i]["mean"], default=None)

    def caption(self) -> str:
        """How far the study is, and what the intervals are."""
        total = "" if self.cells is None else f" of {self.cells}"
        left = "" if self.seconds_left is None else f", about {_clock(self.seconds_left)} left"
        return (
            f"{self.ended}{total} trainings{left}. {self.score}: mean ± standard deviation over the seeds; "
            "the interval is of the mean, 95 %, from the deviation that all networks share."
        )

    def columns(self) -> dict[str, list[str]]:
        """A row for each network."""
        spread, interval = [], []
        for line in self.lines:
            mean, sd, low = line["mean"], line["sd"], line["low"]
            value = "" if mean is None else f"{mean:.4f}" + ("" if sd is None else f" ± {sd:.4f}")
            spread.append(f"{value} failed: {line['fault']}".strip() if line["fault"] else value)
            interval.append("" if low is None else f"[{low:.4f}, {line['high']:.4f}]")
        columns = {
            "network": self.names,
            "seeds": [str(line["seeds"]) for line in self.lines],
            self.score: spread,
            "95 %": interval,
        }
        for cost, title in self.costs.items():
            if any(cost in line for line in self.lines):
                columns[title] = [_number(line.get(cost), line["intervals"].get(cost)) for line in self.lines]
        return columns

    def strong(self) -> str:
        """The network with the highest mean."""
        return "" if self.best is None else self.names[self.best]

    def _finished(self) -> list[int]:
        """Indices of the lines that have a mean, from the highest."""
        done = [i for i, line in enumerate(self.lines) if line["mean"] is not None]
        return sorted(done, key=lambda i: -self.lines[i]["mean"])

    def _estimate(self, i: int) -> tuple[float, float, float]:
        """Mean and bounds of a line; the mean alone where the interval is not known."""
        line = self.lines[i]
        mean = float(line["mean"])
        low, high = (mean if line[end] is None else float(line[end]) for end in ("low", "high"))
        return mean, low, high

    def figure(self) -> Figure | None:
        """Every seed as a dot, the means with their intervals; None before the first cell has finished."""
        order = self._finished()
        if not order:
            return None
        best, others = order[0], order[1:]
        rivals = sum(self._estimate(i)[2] >= self._estimate(best)[1] for i in others)
        title = f"Highest mean: {self.names[best]}"
        if rivals and self.lines[best]["low"] is not None:
            title += f"; the intervals of {rivals} of the {len(others)} others overlap with its own"
        return viz.strips(
            [self.names[i] for i in order],
            [self.lines[i]["scores"] for i in order],
            [self._estimate(i) for i in order],
            f"{self.score}: a dot for each seed",
            title,
            self.names[best],
        )

    def against(self, cost: str = "latency_ms") -> Figure | None:
        """Score against a cost with the intervals of both; None where fewer than two networks have it.

        A dot is hollow if another network is better and cheaper by more than the intervals.
        """
        order = [i for i in self._finished() if cost in self.lines[i]]
        if len(order) < 2:
            return None
        points = {}
        for i in order:
            value = float(self.lines[i][cost])
            low, high = self.lines[i]["intervals"].get(cost, (value, value))
            points[self.names[i]] = ((value, low, high), self._estimate(i))
        strong = {
            name for name in points if not any(_beats(other, points[name]) for other in points.values())
        }
        beaten = len(points) - len(strong)
        title = f"{self.score} and cost: " + (
            f"{beaten} of {len(points)} networks are beaten by another in both, beyond the intervals"
            if beaten
            else "no network is beaten by another in both beyond the intervals"
        )
        return viz.crosses(points, strong, self.costs[cost], self.score, title)


def _beats(
    first: tuple[Sequence[float], Sequence[float]], second: tuple[Sequence[float], Sequence[float]]
) -> bool:
    """Whether the first (cost, score), each a value with bounds, is cheaper and better beyond the bounds."""
    return first[0][2] < second[0][1] and first[1][1] > second[1][2]


@dataclass(frozen=True, eq=False)
class StudyReport(Shown):
    """What a study has shown.

    Attributes:
        plan: of the study.
        networks: their scores and costs.
        rows: the cells that finished, as `report.runs` returns them, and their score as "value".
        failed: number of cells that failed.
        effects: by matching; p values are corrected for all of them together.
        notes: by matching, sentences about what could not be compared.
        importances: share of each factor in the variance of the score (fANOVA).
    """

    plan: Plan
    networks: Networks
    rows: Sequence[Line]
    failed: int
    effects: Mapping[str, Sequence[Effect]]
    notes: Mapping[str, Sequence[str]]
    importances: Mapping[str, float]

    def conclusion(self, matching: str) -> str:
        """In a sentence or two, what the effects of a matching show."""
        effects = self.effects[matching]
        shown = sorted((e for e in effects if e.shown), key=lambda e: -abs(e.difference))
        rest = len(effects) - len(shown)
        if shown:
            words = "; ".join(f"{e.name} {e.difference:+.3f}" for e in shown)
            return f"Shown: {words}." + (f" Not shown: {rest} of {len(effects)} effects." if rest else "")
        if not effects:
            return "There is nothing to compare."
        reach = max(effect.detectable for effect in effects)
        return f"No effect is shown; one of {reach:.3f} would probably have been detected."

    def caption(self) -> str:
        """The conclusions, and what the intervals and p values are."""
        several = len(self.effects) > 1
        sentences = [
            (f"{MATCHINGS[matching][:1].upper()}{MATCHINGS[matching][1:]}: " if several else "")
            + self.conclusion(matching)
            for matching in self.effects
        ]
        tests = sum(map(len, self.effects.values()))
        return " ".join(sentences) + (
            " The intervals are 95 % intervals of single effects, not corrected; p is corrected for all "
            f"{tests} tests of the study (Holm), and an effect is shown if p is below {LEVEL:g}."
        )

    def columns(self) -> dict[str, list[str]]:
        """A row for each effect."""
        pairs = [(matching, effect) for matching, part in self.effects.items() for effect in part]
        columns = {
            "effect": [effect.name for _, effect in pairs],
            "networks": [matching for matching, _ in pairs],
            f"change of {self.networks.score}": [f"{e.difference:+.4f}" for _, e in pairs],
            "95 %": [f"[{e.low:+.4f}, {e.high:+.4f}]" for _, e in pairs],
            "p": [p_text(e.p) for _, e in pairs],
            "detectable": [f"{e.detectable:.4f}" for _, e in pairs],
        }
        if len(self.effects) < 2:
            del columns["networks"]
        return columns

    def strong(self) -> str:
        """The largest effect that is shown."""
        shown = [effect for part in self.effects.values() for effect in part if effect.shown]
        return max(shown, key=lambda effect: abs(effect.difference)).name if shown else ""

    def figure(self) -> Figure | None:
        """The effects of all matchings as a forest plot; None where there are none."""
        return self.forest(list(self.effects))

    def forest(self, matchings: Sequence[str]) -> Figure | None:
        """The effects of some matchings with their intervals and p values; the title is the conclusion."""
        parts = {MATCHINGS[name]: {e.name: e for e in self.effects[name]} for name in matchings}
        names = list(dict.fromkeys(itertools.chain(*parts.values())))
        if not names:
            return None
        series, solid, notes = {}, {}, {}
        for title, effects in parts.items():
            found = [effects.get(name) for name in names]
            series[title] = [[np.nan] * 3 if e is None else [e.difference, e.low, e.high] for e in found]
            solid[title] = [e is not None and e.shown for e in found]
            notes[title] = ["" if e is None else f"p {p_text(e.p)}" for e in found]
        conclusions = "\n".join(
            (f"{MATCHINGS[name]}: " if len(matchings) > 1 else "") + self.conclusion(name)
            for name in matchings
        )
        return viz.forest(
            names, series, solid, notes, f"change of {self.networks.score}, 95 % intervals", conclusions
        )

    def interactions(self) -> Figure | None:
        """Means over the levels of one factor for each level of another, of the networks as they are (or as
        the study matches them), at most `PANELS` pairs; None where there are not two factors."""
        matching = next(iter(self.effects), "")
        rows = [row for row in self.rows if row.get("matching", matching) in ("base", matching)]
        cells = [line["scores"] for line in self.networks.lines]
        panels: dict[str, tuple[list[str], dict[str, NDArray[np.float64]]]] = {}
        for a, b in itertools.islice(itertools.combinations(self.plan.factors, 2), PANELS):
            if len(self.plan.factors[a]) < len(self.plan.factors[b]):
                a, b = b, a
            across = self.plan.factors[a]
            levels = list(itertools.product(self.plan.factors[b], across))
            groups = [
                [row["value"] for row in rows if (row["levels"][b], row["levels"][a]) == pair]
                for pair in levels
            ]
            means = mean_intervals(groups, cells).reshape(-1, len(across), 3)
            lines = {f"{b} {level_text(level)}": means[i] for i, level in enumerate(self.plan.factors[b])}
            panels[f"{a}, by {b}"] = (list(map(level_text, across)), lines)
        if not panels:
            return None
        tested = [e for e in self.effects.get(matching, ()) if " x " in e.name.split(" (or ")[0]]
        shown = [e.name for e in tested if e.shown]
        title = f"Interactions shown: {', '.join(shown) or f'none of {len(tested)}'}" if tested else ""
        return viz.interactions(panels, self.networks.score, title)


def p_text(p: float) -> str:
    """A p value as it is written in tables.

    >>> p_text(0.2), p_text(0.00001)
    ('0.2', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.2g}"
