"""The statistics of a study: what it finds, how often it raises a false alarm, and what it could not see."""

import itertools

import numpy as np
import pytest
from scipy import stats

from toolkit.ablation.report import effects, holm, markdown, table
from toolkit.runtime import InputError

FACTORS = {"se": [False, True], "csp": [False, True], "input_size": [[128, 128], [160, 160]]}
SEED_SD = 0.02  # near what the seeds of a toy study differ by


def design(seeds=3, factors=FACTORS):
    rows = [dict(zip(factors, c, strict=True)) for c in itertools.product(*factors.values())] * seeds
    return {name: [row[name] for row in rows] for name in factors}, len(rows)


def test_known_effects_come_back():
    levels, count = design()
    se, csp = (np.array(levels[name]) for name in ("se", "csp"))
    noise = np.random.default_rng(0).normal(0, 1e-4, count)
    found = {e.name: e for e in effects(levels, FACTORS, 0.5 + 0.1 * se + 0.04 * (se & csp) + noise)}
    assert found["se: off to on"].difference == pytest.approx(0.12, abs=1e-3)
    assert found["csp: off to on"].difference == pytest.approx(0.02, abs=1e-3)
    assert found["se x csp"].difference == pytest.approx(0.04, abs=1e-3)
    assert found["se x csp"].shown
    assert not found["input_size: 128x128 to 160x160"].shown
    assert "no effect shown" in found["input_size: 128x128 to 160x160"].sentence()


def test_one_factor_is_students_test():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.5, 0.02, 5), rng.normal(0.53, 0.02, 5)
    levels = {"ema": [0] * 5 + [0.998] * 5}
    (effect,) = effects(levels, {"ema": [0, 0.998]}, [*a, *b])
    test = stats.ttest_ind(b, a)
    assert effect.p == pytest.approx(test.pvalue)
    assert (effect.low, effect.high) == pytest.approx(tuple(test.confidence_interval()))


def test_three_levels_are_compared_with_the_first():
    levels = {"width": [0.5, 1.0, 2.0] * 4}
    scores = np.tile([0.3, 0.4, 0.6], 4) + np.random.default_rng(2).normal(0, 0.001, 12)
    found = effects(levels, {"width": [0.5, 1.0, 2.0]}, scores)
    assert [e.difference for e in found] == pytest.approx([0.1, 0.3], abs=0.005)


def test_false_alarms_and_power_over_a_thousand_studies():
    """Where no factor does anything, at most 7 % of the studies say that one does; an effect of the size that
    a study calls detectable is found as often as it says."""
    levels, count = design()
    rng = np.random.default_rng(3)
    alarms = sum(
        any(e.shown for e in effects(levels, FACTORS, rng.normal(0.8, SEED_SD, count))) for _ in range(1000)
    )
    assert alarms <= 70
    assert alarms >= 20  # a test that never alarms would not be one
    names = [e.name for e in effects(levels, FACTORS, rng.normal(0.8, SEED_SD, count))]
    error = 2 * SEED_SD / np.sqrt(count)
    freedom = count - 1 - len(names)
    detectable = error * (stats.t.ppf(1 - 0.025 / len(names), freedom) + stats.t.ppf(0.8, freedom))
    se = np.array(levels["se"])
    seen = sum(
        effects(levels, FACTORS, rng.normal(0.8 + detectable * se, SEED_SD))[0].shown for _ in range(1000)
    )
    assert 740 <= seen <= 900


def test_holm():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1, 1])


def test_one_seed_leaves_nothing_to_judge_by():
    levels, count = design(1, {"se": [False, True]})
    with pytest.raises(InputError, match="add seeds"):
        effects(levels, {"se": [False, True]}, np.arange(count))
    levels, count = design(2)
    with pytest.raises(InputError, match="do not vary from seed to seed"):
        effects(levels, FACTORS, np.zeros(count))


def test_table_keeps_failed_cells():
    rows = [
        {"levels": {"se": True}, "matching": "base", "seed": s, "score": 0.5 + s / 10, "bflops": 0.1}
        for s in range(2)
    ]
    rows.append({"levels": {"se": False}, "matching": "as-is", "seed": 0, "fault": "it diverged"})
    lines = table(rows)
    assert lines[0]["mean"] == pytest.approx(0.55)
    assert lines[0]["sd"] == pytest.approx(0.0707, abs=1e-4)
    text = markdown(lines)
    assert "failed: it diverged" in text
    assert "0.5500 ± 0.0707" in text
    assert "not measured" in text
