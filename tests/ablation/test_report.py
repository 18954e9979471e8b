"""The statistics of a study: what it finds, how often it raises a false alarm, and what it could not see."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tests.benchmarks.studies import simulate, spread_of_seeds
from toolkit.ablation.cells import cells
from toolkit.ablation.effects import contrasts, effects, fit, holm, judged, mean_intervals
from toolkit.ablation.example import open_example, write_example
from toolkit.ablation.plan import read_plan
from toolkit.ablation.report import markdown, networks_so_far, read_report, runs, study_table, write_report
from toolkit.ablation.store import Store, own_database
from toolkit.files import whole_file
from toolkit.runtime import InputError

FACTORS = {"se": [False, True], "csp": [False, True], "input_size": [[128, 128], [160, 160]]}
SEED_SD = 0.02  # near what the seeds of a toy study differ by


def design(seeds=3, factors=FACTORS, kept=lambda *levels: True):
    rows = [dict(zip(factors, c, strict=True)) for c in itertools.product(*factors.values()) if kept(*c)]
    return {name: [row[name] for row in rows * seeds] for name in factors}, len(rows) * seeds


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


def test_false_alarms_and_power_with_the_seeds_of_the_toy_study():
    """Where no factor does anything, at most 7 % of a thousand studies say that one does, with the spread of
    seeds that each cell of the toy study was measured to have; and what chance an effect has to be found."""
    sds = spread_of_seeds()
    assert len(sds) == 8
    assert max(sds) > 3 * min(sds)  # not all alike, which the model of one variance must bear
    found = simulate(sds, [0.0, 0.05], studies=1000)
    print(found)
    assert 0.02 <= found[0.0]["false alarms"] <= 0.07  # what never alarms would be no test
    assert 0.80 <= found[0.05]["power"] <= 0.99
    assert found[0.05]["false alarms"] <= 0.07  # of the five others, while one is true


def test_what_is_called_detectable_is_found_as_often_as_said():
    levels, count = design()
    rng = np.random.default_rng(3)
    names = [e.name for e in effects(levels, FACTORS, rng.normal(0.8, SEED_SD, count))]
    error = 2 * SEED_SD / np.sqrt(count)
    freedom = count - 1 - len(names)
    detectable = error * (stats.t.ppf(1 - 0.025 / len(names), freedom) + stats.t.ppf(0.8, freedom))
    se = np.array(levels["se"])
    seen = sum(
        effects(levels, FACTORS, rng.normal(0.8 + detectable * se, SEED_SD))[0].shown for _ in range(1000)
    )
    assert 740 <= seen <= 900


def two(*names):
    return {name: [False, True] for name in names}


def noise(count, seed=4):
    return np.random.default_rng(seed).normal(0.5, 0.01, count)


def test_factors_that_always_change_together_are_left_out():
    factors = two("a", "b")
    levels, _ = design(3, factors, lambda a, b: a == b)
    known = contrasts(levels, factors)
    assert not known.names
    assert known.left[:2] == [
        "a: off to on cannot be separated from b.", "b: off to on cannot be separated from a."
    ]  # fmt: skip
    assert known.left[2].startswith("a x b cannot be separated from the mean")
    with pytest.raises(InputError, match="nothing to compare"):
        fit(known, noise(6))


def test_a_missing_cell_names_what_it_hides():
    factors = two("a", "b")
    levels, _ = design(3, factors, lambda a, b: not (a and b))
    assert contrasts(levels, factors).names == ["a: off to on (or a x b)", "b: off to on (or a x b)"]
    levels, _ = design(3, two("a", "b"))
    known = contrasts(levels, factors)
    assert known.names == ["a: off to on", "b: off to on", "a x b"]
    assert not known.left


def test_half_a_factorial_names_its_aliases():
    factors = two("a", "b", "c", "d")
    levels, count = design(3, factors, lambda *on: sum(on) % 2 == 0)
    together = np.array(levels["c"]) & np.array(levels["d"])
    shown = [e.name for e in effects(levels, factors, noise(count) + 0.2 * together) if e.shown]
    assert shown == ["c: off to on", "d: off to on", "a x b (or c x d)"]
    assert any("cannot separate them" in line for line in contrasts(levels, factors).left)
    three = two("a", "b", "c")
    levels, _ = design(3, three, lambda *on: sum(on) % 2 == 0)
    names = contrasts(levels, three).names
    assert names == ["a: off to on (or b x c)", "b: off to on (or a x c)", "c: off to on (or a x b)"]


def test_interactions_of_three_levels_are_said_not_to_be_tested():
    factors = {"width": [0.5, 1.0, 2.0], "se": [False, True]}
    levels, _ = design(3, factors)
    known = contrasts(levels, factors)
    assert known.names == ["width: 0.5 to 1.0", "width: 0.5 to 2.0", "se: off to on"]
    assert known.left == ["Not tested, because a factor has three or more levels: width x se."]


def test_sections_are_corrected_together():
    factors = two("a")
    levels, count = design(4, factors)
    fits = [fit(contrasts(levels, factors), noise(count, seed)) for seed in (5, 6)]
    alone = [judged([part])[0][0].p for part in fits]
    together = [part[0].p for part in judged(fits)]
    np.testing.assert_allclose(together, holm(alone))
    assert together != alone


@pytest.fixture
def kept(tmp_path):
    """A function that writes a study's folder as if its cells had run: score(cell) or a fault in words."""

    def write(score, **more):
        stated = {"name": "kept", "model": "yoloface-50k", "recipe": "modern", "seeds": [0, 1, 2]}
        stated |= {"factors": {"input_size": [64, 70], "ema": [0, 0.9]}, "budget": {"steps": 1}, **more}
        plan = read_plan(stated)
        with whole_file(tmp_path / "plan.json") as temporary:
            temporary.write_text(json.dumps(stated))
        store = Store(plan, own_database(tmp_path))
        store.enter(cells(plan))
        while (trial := store.take()) is not None:
            answer = score(trial.user_attrs)
            if not isinstance(answer, str):
                answer = {"score": answer, "map50": answer, "seconds": 3.0, "training_seconds": 2.0 + answer}
            store.finish(trial, {"fault": answer} if isinstance(answer, str) else answer)
        return tmp_path

    return write


def strict(text):
    return json.loads(text, parse_constant=pytest.fail)


def test_a_study_of_which_one_level_survived_is_reported(kept):
    wrong = "70 is no multiple of the stride"
    drawn = noise(100)
    folder = kept(lambda cell: wrong if cell["levels"]["input_size"] == 70 else drawn[cell["seed"]])
    answer = write_report(folder)
    text = (folder / "report.md").read_text()
    assert text.count(f"failed: {wrong}") == 2
    assert "input_size: only 64 finished, so there is nothing to compare" in text
    assert [e["name"] for e in answer["effects"]["as-is"]] == ["ema: 0 to 0.9"]
    read = strict((folder / "report.json").read_text())
    assert [line["mean"] for line in read["table"]].count(None) == 2
    folder = kept(lambda cell: wrong, name="none")
    with pytest.raises(InputError, match="no cell of"):
        write_report(folder)


def test_nothing_to_compare_is_a_sentence(kept):
    wrong = "it diverged"
    folder = kept(lambda cell: 0.5 if cell["levels"] == {"input_size": 64, "ema": 0} else wrong)
    assert write_report(folder)["effects"] == {"as-is": []}
    text = (folder / "report.md").read_text()
    assert "input_size: only 64 finished" in text
    assert "ema: only 0 finished" in text


def test_sections_of_a_matched_study(kept):
    drawn = iter(noise(100))
    more = {"factors": {"se": [False, True], "csp": [False, True]}, "model": "yoloface-500k-v2"}
    folder = kept(lambda cell: float(next(drawn)), matching="width", name="width", **more)
    assert list(write_report(folder)["effects"]) == ["width"]
    folder = kept(lambda cell: float(next(drawn)), matching="both", name="both", **more)
    answer = write_report(folder)
    assert list(answer["effects"]) == ["as-is", "width"]
    text = (folder / "report.md").read_text()
    assert "intervals of single effects, not corrected; p is corrected for all 6 tests" in text


def test_a_budget_of_seconds_is_held_beside_what_was_used(kept):
    scores = {0: 0.1, 1: 0.4, 2: 0.15}
    folder = kept(
        lambda cell: scores[cell["seed"]], budget={"seconds": 2}, factors={"batch": [4, 8]}, name="seconds"
    )
    answer = write_report(folder)
    assert sorted(set(answer["seconds"].values())) == [2.1, 2.15, 2.4]
    (line,) = [x for x in (folder / "report.md").read_text().splitlines() if "Off by more than 10%" in x]
    assert line.startswith("2 s of training")
    off = line.split("Off by")[1]
    assert off.count("s1-") == 2
    assert "s0-" not in off


def test_bad_reports_are_one_sentence(kept, tmp_path):
    drawn = iter(noise(100))
    with pytest.raises(InputError, match="has no study: expected"):
        write_report(tmp_path / "nowhere")
    folder = kept(lambda cell: float(next(drawn)))
    with pytest.raises(InputError, match="no score 'easy': they have score, map50"):
        write_report(folder, score="easy")
    before = (folder / "study.db").read_bytes()
    (folder / "study.db").unlink()
    with pytest.raises(InputError, match="has no study.db"):
        write_report(folder)
    assert not (folder / "study.db").exists()
    (folder / "study.db").write_bytes(b"rubbish" + before[7:])
    with pytest.raises(InputError, match="cannot be used .file is not a database.: expected an address"):
        write_report(folder)
    (folder / "plan.json").write_text('{"name": ')
    with pytest.raises(InputError, match="plan.json is damaged"):
        write_report(folder)


def test_means_have_students_interval():
    a, b = noise(5), noise(5, 1) + 0.1
    (mean, low, high), _ = mean_intervals([a, b])
    sd = ((a.var(ddof=1) + b.var(ddof=1)) / 2) ** 0.5
    assert mean == pytest.approx(a.mean())
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 8, a.mean(), sd / 5**0.5))
    ((mean, low, _),) = mean_intervals([[*a, *b]], [a, b])
    assert (mean, mean - low) == pytest.approx(((a.mean() + b.mean()) / 2, (high - a.mean()) / 2**0.5))
    assert np.isnan(mean_intervals([[0.5], []])).tolist() == [[False, True, True], [True, True, True]]


SHOWN = {"factors": {"se": [False, True], "csp": [False, True]}, "model": "yoloface-500k-v2"}


def csp_helps(cell):
    """+0.2 for CSP, nothing for SE, and a little that differs from seed to seed."""
    return 0.5 + 0.2 * cell["levels"]["csp"] + 0.01 * cell["seed"] + 0.001 * cell["levels"]["se"]


def test_a_report_says_what_was_shown_and_what_not(kept):
    report = read_report(kept(csp_helps, name="csp", **SHOWN))
    assert report.strong() == "csp: off to on"
    assert report.conclusion("as-is") == "Shown: csp: off to on +0.200. Not shown: 2 of 3 effects."
    assert report.networks.strong() == "se, csp"
    title = report.forest(["as-is"])._suptitle.get_text()
    assert title.replace("\n", " ") == report.conclusion("as-is")
    assert "interval" in report.networks.figure()._suptitle.get_text()
    assert report.interactions()._suptitle.get_text() == "Interactions shown: none of 1"
    assert r"\textbf{se, csp}" in report.networks.latex()
    assert "| **se, csp** |" in report.networks.markdown()
    nothing = read_report(kept(lambda cell: 0.5 + 0.01 * cell["seed"], name="nothing", **SHOWN))
    assert nothing.conclusion("as-is").startswith("No effect is shown; one of 0.0")


def test_costs_with_intervals_beat_only_beyond_them(kept):
    def row(csp, score, ms, spread):
        return [
            {"levels": {"csp": csp}, "seed": s, "score": score + s / 1000, "latency_ms": ms,
             "latency_low_ms": ms - spread, "latency_high_ms": ms + spread} for s in range(3)
        ]  # fmt: skip

    def title(*rows):
        networks = replace(read_report(folder).networks, lines=study_table([*itertools.chain(*rows)]))
        return networks.against("latency_ms")._suptitle.get_text().replace("\n", " ")

    folder = kept(csp_helps, name="costs", **SHOWN)
    assert "1 of 2 networks are beaten" in title(row(False, 0.5, 2.0, 0.1), row(True, 0.6, 1.0, 0.1))
    assert "no network is beaten" in title(row(False, 0.5, 2.0, 0.6), row(True, 0.6, 1.0, 0.6))
    assert read_report(folder).networks.against("latency_ms") is None


def test_a_study_that_runs_says_what_is_left(kept):
    folder = kept(csp_helps, name="runs", **SHOWN)
    store = Store(read_report(folder).plan, own_database(folder))
    assert networks_so_far(store, 2).seconds_left == 0
    more = replace(networks_so_far(store, 2), cells=14, seconds_left=200.0)
    assert more.caption().startswith("12 of 14 trainings, about 3 min left.")


def test_a_finished_study_comes_back_from_its_text(kept, tmp_path):
    folder = kept(csp_helps, name="text", **SHOWN)
    first = read_report(folder)
    store = Store(first.plan, own_database(folder))
    file = tmp_path / "text.yaml"
    write_example(first.plan, runs(store), {"command": "none"}, file)
    again = read_report(open_example(tmp_path / "again", file))
    assert (str(again), str(again.networks)) == (str(first), str(first.networks))
    file.write_text(file.read_text().replace("se=True", "se=maybe"))
    with pytest.raises(InputError, match="other cells than its plan"):
        open_example(tmp_path / "other", file)


def test_a_study_that_was_stopped_goes_on_from_its_text(kept, tmp_path):
    folder = kept(csp_helps, name="stopped", **SHOWN)
    plan = read_report(folder).plan
    rows, file = runs(Store(plan, own_database(folder))), tmp_path / "stopped.yaml"
    write_example(plan, rows[:5], {"command": "none"}, file)
    store = Store(plan, own_database(open_example(tmp_path / "again", file)))
    assert {row["key"] for row in runs(store)} == {row["key"] for row in rows[:5]}
    assert {cell.key for cell in store.missing(cells(plan))} == {row["key"] for row in rows[5:]}


def test_the_study_of_the_package_is_finished_and_shows_something(tmp_path):
    report = read_report(open_example(tmp_path))
    assert report.networks.ended == report.networks.cells
    assert report.failed == 0
    assert report.strong()
    assert report.networks.against("latency_ms") is not None


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
    lines = study_table(rows)
    assert lines[0]["mean"] == pytest.approx(0.55)
    assert lines[0]["sd"] == pytest.approx(0.0707, abs=1e-4)
    text = markdown(lines)
    assert "failed: it diverged" in text
    assert "0.5500 ± 0.0707" in text
    assert "not measured" in text
