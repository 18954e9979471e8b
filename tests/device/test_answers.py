"""What a device answers is a stranger's word."""

import subprocess
import time

import pytest

from toolkit.device import answers
from toolkit.device.facts import ask_device, device_facts, device_state
from toolkit.runtime import InputError


@pytest.mark.parametrize(
    "path",
    ["/tmp/toolkit-aB3dE6", "/var/tmp/toolkit-x", "/data/local/tmp/toolkit-x", "/home/a.b/tmp/toolkit-1"],
)
def test_a_temporary_folder_is_taken(path):
    assert answers.made_folder(f"{path}\n", "ssh:board") == path


@pytest.mark.parametrize(
    "answer",
    [
        "", "\n", "/", "~", "tmp/toolkit-x", "/tmp", "/tmp/", "/home/user", "/home/toolkit-x", "/tmp/x",
        "/tmp/../home/toolkit-x", "/tmp/../toolkit-x", "/tmp/toolkit-x /home", "/tmp/toolkit-x\n/home",
        "/tmp/$(reboot)/toolkit-x", "/tmp/toolkit-x;reboot", "/tmp/toolkit-\u0660", "/tmp/toolkit-x/..",
        "/tmp/toolkit-x" + "\0" + "x",
    ],
)  # fmt: skip
def test_another_folder_is_refused(answer):
    with pytest.raises(InputError, match=r"ssh:board.*expected toolkit-\.\.\. in a folder"):
        answers.made_folder(answer, "ssh:board")


def test_an_answer_is_read_whole():
    done = answers.run_bounded(["sh", "-c", "cat; echo no >&2; exit 3"], "it", b"x" * 200_000)
    assert (done.returncode, len(done.stdout), done.stderr) == (3, 200_000, b"no\n")


@pytest.mark.parametrize("stream", ["", ">&2"])
def test_an_answer_without_end_is_cut(monkeypatch, stream):
    monkeypatch.setattr(answers, "LIMIT", 1 << 20)
    with pytest.raises(InputError, match="it answers more than 1 MB"):
        answers.run_bounded(["sh", "-c", f"yes {stream}"], "it", timeout=60)


def test_a_device_that_says_nothing_is_left(tmp_path):
    """With what it has started, which holds the pipes open."""
    begun = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        answers.run_bounded(
            ["sh", "-c", "(sleep 1.5; touch later) & sleep 60"], "it", timeout=0.5, folder=str(tmp_path)
        )
    assert time.monotonic() - begun < 20
    time.sleep(2)
    assert list(tmp_path.iterdir()) == []


def test_a_message_is_one_line_without_control_characters():
    assert answers.last_line("first\n\x1b[2J\x1b]0;title\x07lost\r\n") == "[2J ]0;title lost"
    assert len(answers.last_line("x" * 10**6)) <= 400


class Board:
    """Says what it likes."""

    name, folder = "ssh:board", "/tmp/toolkit-x"

    def __init__(self, text):
        self.text = text

    def run(self, command, timeout=60):
        return subprocess.CompletedProcess(command, 0, self.text, "")


def test_facts_of_a_hostile_board_are_bounded():
    text = (
        "machine=aarch64\nkernel=Linux 6\nboard=\x1b[31mPi\x1b[0m" + "!" * 10**5 + "\nfree_kb=\u00b2\n"
        "core=1\nmax_khz=\u0663\u0663\nmax_khz="
        + "9" * 5000
        + "\nmax_khz=1800000\nzone=a 1e9\nzone=b 45000\n"
    )
    facts = device_facts(Board(text))
    assert facts["model"].isprintable()
    assert len(facts["model"]) <= 200
    assert (facts["max_khz"], facts["free_kb"]) == ([1800000], None)
    assert device_state(ask_device(Board(text)))["celsius"] == {"b": 45.0}
    stat = "stat=cpu  {} 0 {} {} {} 0 0 0 0 0\n"
    counts = [stat.format(100, 50, 800, 50), stat.format(130, 60, 850, 60)]
    assert device_state(ask_device(Board("".join(counts))))["busy"] == 0.4  # 40 of 100 ticks
    for unknown in ("", counts[0], counts[0] * 2, "stat=cpu a b c d e\n" * 2, "stat=cpu 1\n" * 2):
        assert device_state(ask_device(Board(unknown)))["busy"] is None
    assert len(ask_device(Board("core=1\n" * 10**6))["core"]) <= 10_000
