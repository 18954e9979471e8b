"""What ends a command: signals, a reader that has gone, an error of the system."""

import os
import signal
import subprocess
import sys

import pytest

BEGIN = "import sys, os, signal, time\nfrom toolkit.cli.answer import explained\n"
BEGIN += "from toolkit.signals import leaving\n"


def run(code, *numbers, variables={}, **options):  # noqa: B006 (never changed)
    """A process that runs `code` inside `explained`, and gets signals when it prints: (exit code, stderr)."""
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    with subprocess.Popen(
        [sys.executable, "-c", f"{BEGIN}with explained():\n{lines}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **variables},
        text=True,
        **options,
    ) as process:
        for number in numbers:
            process.stdout.readline()
            process.send_signal(number)
        _, messages = process.communicate(timeout=60)
    return process.returncode, messages


SAVING = """
try:
    print(flush=True)
    time.sleep(60)
finally:
    print('saved', file=sys.stderr)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_in_good_order(number, code):
    assert run(SAVING, number) == (code, "saved\ninterrupted\n")


def test_a_second_signal_ends_it_at_once():
    slow = SAVING.replace("print('saved', file=sys.stderr)", "print(flush=True); time.sleep(60)")
    assert run(slow, signal.SIGINT, signal.SIGINT) == (130, "")


TURNED = """
try:
    print(flush=True)
    time.sleep(60)
except BaseException:
    raise RuntimeError('error of a library') from None
"""


def test_a_library_that_makes_another_error_of_a_signal_changes_nothing():
    assert run(TURNED, signal.SIGTERM) == (143, "interrupted\n")


LEAVING = """
with leaving() as signals:
    print(flush=True)
    while not signals:
        time.sleep(.01)
    print(flush=True)
    {after}
print('left by', *signals, file=sys.stderr)
"""


def test_the_first_signal_lets_a_step_end():
    assert run(LEAVING.format(after=""), signal.SIGTERM) == (0, "left by 15\n")
    assert run(LEAVING.format(after="time.sleep(60)"), signal.SIGTERM, signal.SIGINT) == (143, "")


def test_a_signal_that_was_to_be_ignored_is():
    ignored = "print(flush=True); time.sleep(.3)"
    code = "signal.signal(signal.SIGINT, signal.SIG_IGN)\nfrom toolkit.signals import interrupting\n"
    code += f"with interrupting():\n    {ignored}"
    lines = BEGIN + code
    with subprocess.Popen([sys.executable, "-c", lines], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise MemoryError", "not enough memory"),
        ("import torch; torch.empty(1 << 50)", "not enough memory"),
        ("f = lambda: f()\nf()", "nested too deeply"),
        ("open('/dev/full', 'w').write('x' * 9999)", "No space left on device"),
        ("open('/nowhere/at/all')", "/nowhere/at/all cannot be used (No such file or directory)"),
        ("os.write(os.pipe()[1], b'') or os.kill(0, 'x')", None),
    ],
)
def test_an_error_of_the_system_is_a_sentence(code, words):
    returned, messages = run(code)
    if words is None:  # an error of ours stays one
        assert returned == 1
        assert "Traceback" in messages
        return
    assert returned == 2
    assert words in messages
    assert messages.count("\n") == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_nobody_left_to_read_is_no_error(unbuffered):
    code = "print(flush=True); sys.stdin.read(); print('more')"
    lines = BEGIN + "with explained():\n    " + code
    with subprocess.Popen(
        [sys.executable, "-c", lines],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_our_letters_is_no_error(encoding, tmp_path):
    folder = tmp_path / "螺母"
    command = [sys.executable, "-m", "toolkit.cli", "data", "doctor", str(folder)]
    variables = {**os.environ, "PYTHONIOENCODING": encoding}
    process = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    assert process.returncode == 2
    assert "\\u87ba\\u6bcd" in process.stderr
    assert "Traceback" not in process.stderr
