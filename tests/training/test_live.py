"""A training in a real kernel: it shows itself, and its button stops it while the cell runs."""

import json
import time

import pytest
from jupyter_client.manager import start_new_kernel

from toolkit.data.toy import make_toy
from toolkit.training.show import RunHistory

CODE = """
from toolkit.data.catalog import load
from toolkit.training.config import read_config
from toolkit.training.live import train_live
config = read_config({
    "data": "./toy", "model": "yoloface-50k", "recipe": {"name": "modern", "batch": 4, "epochs": 2000},
    "validations": 10000,
})
result = await train_live(config, "run", load("./toy"))
print("finished", result.finished, "after", result.step)
"""


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_toy(tmp_path / "toy", 0, 20, 64)
    manager, client = start_new_kernel(cwd=str(tmp_path))
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def of_cell(message, cell):
    return message["parent_header"].get("msg_id") == cell


def reply_of(client, channel, message):
    """What the kernel answers on a channel to a message."""
    getattr(client, f"{channel}_channel").send(message)
    while True:
        reply = getattr(client, f"get_{channel}_msg")(timeout=60)
        if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
            return reply["content"]


@pytest.mark.parametrize("way", ["click", "interrupt"])
def test_the_button_stops_and_saves(way, kernel, tmp_path):
    """A front end sends the click to a subshell of the kernel, as JupyterLab does."""
    manager, kernel = kernel
    subshell = reply_of(kernel, "control", kernel.session.msg("create_subshell_request"))["subshell_id"]
    cell = kernel.execute(CODE)
    models, shown, text, clicked = {}, [], "", False
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        message = kernel.get_iopub_msg(timeout=120)
        content, kind = message["content"], message["msg_type"]
        if kind == "comm_open":
            models[content["data"]["state"].get("_model_name")] = content["comm_id"]
        elif kind == "comm_msg" and "value" in content["data"].get("state", {}):
            shown.append(content["data"]["state"]["value"])
        elif kind == "stream":
            text += content["text"]
        elif kind == "error":
            pytest.fail("\n".join(content["traceback"]))
        elif kind == "status" and content["execution_state"] == "idle" and of_cell(message, cell):
            break
        if len(shown) >= 2 and not clicked:
            clicked = True
            if way == "interrupt":
                manager.interrupt_kernel()
                continue
            data = {"method": "custom", "content": {"event": "click"}}
            click = kernel.session.msg("comm_msg", {"comm_id": models["ButtonModel"], "data": data})
            click["header"]["subshell_id"] = subshell
            kernel.shell_channel.send(click)
    assert "finished False after" in text
    assert all(value.count("<img") == 2 for value in shown)  # curves and detections
    assert (tmp_path / "run" / "last.pt").is_file()
    assert json.loads((tmp_path / "run" / "result.json").read_text())["finished"] is False
    history = RunHistory.read(tmp_path / "run")
    assert len(history.entries) >= 2
    assert history.strong() == f"{history.entries[history.best]['step']:,.0f}"


def test_a_history_names_its_best_validation(tmp_path):
    entries = [
        {"step": 10 * i, "loss": 3.0 - i, "box": 1.0, "learning_rate": 0.01, "map50": score}
        for i, score in enumerate([0.1, 0.3, 0.2], 1)
    ]
    history = RunHistory(entries)
    assert history.strong() == "20"
    assert history.figure()._suptitle.get_text() == "Best map50 0.3000, at step 20 of 30"
    assert RunHistory(entries, "map50", -1).strong() == "10"
    assert list(history.columns()) == ["step", "map50", "loss", "loss: box", "learning rate"]
    assert RunHistory.read(tmp_path) is None
