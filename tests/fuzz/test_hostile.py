"""The first hostile input of each kind; all of them run in `make fuzz`."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from typer.core import TyperGroup

from tests.fuzz.hostile import FAULTS, Trial, counts, tried
from tests.fuzz.places import CASES, SECRET, Case, Place, make_base
from toolkit.cli import COMMANDS, load_command

FIRST = {case.kind: case for case in reversed(CASES)}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "base"
    make_base(folder)
    return folder


@pytest.mark.parametrize("kind", FIRST)
def test_a_hostile_input_does_no_harm(kind, base, tmp_path):
    trial = tried(FIRST[kind], tmp_path, base)
    assert trial.faults == [], trial


def test_there_are_enough_of_them_under_names_of_their_own():
    assert len({(case.kind, case.name) for case in CASES}) == len(CASES) > 200


@pytest.mark.parametrize(
    "command", ["data import {outside} out --format folder --copy", f"data import . out --format {SECRET}"]
)
def test_bytes_from_outside_are_seen(command, base, tmp_path):
    """In a copy that was asked for, and in a sentence."""
    trial = tried(Case("copy", "harm", command), tmp_path, base)
    assert trial.faults == ["outside bytes"]


@cache
def options_of(command, word):
    """Of the command that is called so, or of the one in its group."""
    found = load_command(command)
    found = found.commands[word] if isinstance(found, TyperGroup) else found
    return {option for parameter in found.params for option in parameter.opts}


def test_commands_have_the_options_they_are_given():
    """Else a case would end at the command line, whatever its file holds."""
    place = Place(Path("in"), Path("outside"), Path("base"))
    for case in CASES:
        words = case.words(place)
        if len(words) > 1 and words[0] in COMMANDS:
            assert {word for word in words if word.startswith("--")} <= options_of(*words[:2]), case


GOOD = Trial("a", "b", 2, False, False, 1.0, 300.0, [], False, [], "error: x")


CHANGES = {
    "traceback": {"traceback": True},
    "hang": {"hang": True, "exit": -9},
    "memory": {"megabytes": 1501.0},
    "outside bytes": {"outside": ["in/out/a.jpg"]},
    "code run": {"executed": True},
    "crash": {"exit": -11},
    "left behind": {"left": ["in/out/x"]},
    "no sentence": {"said": " "},
    "long sentence": {"said": "x" * 5000},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_counted(fault):
    bad = replace(GOOD, **CHANGES[fault])
    assert (GOOD.faults, bad.faults) == ([], [fault])
    row = counts([GOOD, GOOD, bad])
    assert (row["inputs"], row["exit 2"], row[fault]) == (3, 2, 1)
