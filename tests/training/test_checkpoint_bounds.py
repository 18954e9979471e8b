"""Checkpoints of strangers: whatever they hold, the answer is a network or one sentence."""

import io
import math
import os
import pickle
import resource
import zipfile

import pytest
import torch

from toolkit.models import create_model
from toolkit.models.detector import Detector
from toolkit.models.pt_file import read_pt
from toolkit.runtime import InputError
from toolkit.training.checkpoint import load_checkpoint, save_checkpoint, start_from, trained
from toolkit.training.origin import Origin

NAME = "yoloface-50k"


def content(**changed):
    model = create_model(NAME).state_dict()
    return {"model_name": NAME, "changes": {}, "model": model, "step": 3, "mAP50": 0.5} | changed


def with_weight(make):
    """A checkpoint of which one tensor is another."""
    state = content()
    key = next(iter(state["model"]))
    state["model"][key] = make(state["model"][key])
    return state


def saved(state):
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def zipped(state=None, compression=zipfile.ZIP_STORED, **files):
    """The zip of a state, with other files in it or in place of its own."""
    source = zipfile.ZipFile(io.BytesIO(saved(content() if state is None else state)))
    parts = {name: source.read(name) for name in source.namelist()}
    root = next(iter(parts)).partition("/")[0]
    parts |= {f"{root}/{name.replace('__', '/')}": data for name, data in files.items()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return file.getvalue()


def twice():
    file = io.BytesIO(saved(content()))
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(archive.namelist()[0], b"")
    return file.getvalue()


def legacy():
    file = io.BytesIO()
    torch.save(content(), file, _use_new_zipfile_serialization=False)
    return file.getvalue()


class Call:
    """A call that a pickle makes, of what torch allows."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


def loop():
    state = content(history=[])
    state["history"].append(state["history"])
    return state


def laughs(depth=12):
    value = [1] * 10
    for _ in range(depth):
        value = [value] * 10
    return content(changes={"width": value})


def nested():
    value = []
    for _ in range(300):
        value = [value]
    return content(changes={"width": value})


DAMAGED = {
    "empty": b"",
    "words": b"not a checkpoint" * 9,
    "cut": saved(content())[:-100],
    "half": saved(content())[:20_000],
    "legacy": legacy(),
    "pickle": pickle.dumps({"model": 1}),
    "compressed": zipped(compression=zipfile.ZIP_DEFLATED),
    "a zip bomb": zipped(data__0=bytes(50_000_000), compression=zipfile.ZIP_DEFLATED),
    "something before it": bytes(100) + zipped(),
    "no pickle": zipped(**{"data.pkl": b""}),
    "pickle of a call": zipped(**{"data.pkl": pickle.dumps(Call(os.getcwd), 2)}),
    "bytes without end": zipped(**{"data.pkl": pickle.dumps(Call(bytearray, 10**10), 2)}),
    "sparse": saved(with_weight(lambda w: w.to_sparse())),
    "huge and sparse": saved(with_weight(lambda w: torch.empty(10**9, 10**9, layout=torch.sparse_coo))),
    "on meta": saved(with_weight(lambda w: torch.empty(10**12, device="meta"))),
    "complex": saved(with_weight(lambda w: w.to(torch.complex64))),
    "expanded": saved(with_weight(lambda w: torch.zeros(1).expand(10**12))),
    "expanded to its shape": saved(with_weight(lambda w: torch.zeros(1).expand(w.shape))),
    "list in itself": saved(loop()),
    "a thousand million laughs": saved(laughs()),
    "nested": saved(nested()),
}  # fmt: skip
WRONG = {
    "no mapping": [1, 2],
    "empty": {},
    "a name that is none": content(model_name=3),
    "an unknown name": content(model_name="x" * 100_000),
    "weights that are none": content(model=[1]),
    "weights of words": content(model={"a": "b"}),
    "step below 0": content(step=-1),
    "step of a word": content(step="3"),
    "history": content(history=[3]),
    "history of words": content(history=[{"loss": "low"}]),
    "changes": content(changes=[1]),
    "an unknown change": content(changes={"breadth": 3}),
    "a change of the weights": content(changes={"weights": "/etc/passwd"}),
    "a change of the class": content(changes={"kind": 3}),
    "width": content(changes={"width": 1e9}),
    "input size": content(changes={"input_size": [10**6, 10**6]}),
    "classes": content(changes={"classes": 10**9}),
    "too large a number": content(changes={"classes": 10**30}),
    "cfg": content(model_name="a.cfg", cfg="[net]\nwidth=100000000\nheight=64\n"),
    "cfg that is none": content(cfg=["[net]"]),
    "seconds": content(seconds=math.nan),
    "best": content(best=math.inf),
    "a weight less": content(model=dict(list(create_model(NAME).state_dict().items())[1:])),
    "a weight more": content(model={**create_model(NAME).state_dict(), "x": torch.zeros(1)}),
    "shape": with_weight(lambda w: w[:-1]),
    "whole numbers": with_weight(lambda w: w.long()),
    "no tensor": with_weight(lambda w: 3.0),
    "not finite": with_weight(lambda w: w * math.nan),
    "another network": content(model=create_model("yoloface-100k").state_dict()),
    "optimizer": content(optimizer={"state": [1], "param_groups": []}),
    "average": content(average={"a": 3}),
}


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_one_sentence(tmp_path, kind):
    path = tmp_path / "best.pt"
    path.write_bytes(DAMAGED[kind])
    before = peak()
    with pytest.raises(InputError) as caught:
        trained(path)
    assert len(str(caught.value)) < 600
    assert "best.pt" in str(caught.value)
    assert peak() - before < 200_000  # kB


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_content_is_one_sentence(tmp_path, kind):
    path = tmp_path / "best.pt"
    torch.save(WRONG[kind], path)
    with pytest.raises(InputError) as caught:
        trained(path)
    assert len(str(caught.value)) < 600


def test_folders_and_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "folder.pt").mkdir()
    for name in ("pipe.pt", "folder.pt", "missing.pt", "zero\0.pt"):
        with pytest.raises(InputError):
            trained(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.weights")
    with pytest.raises(InputError, match="is a pipe"):
        start_from(Detector, Origin("yoloface-50k"), str(tmp_path / "pipe.weights"))


def test_a_flipped_byte_is_read_or_said(tmp_path):
    whole, path = saved(content()), tmp_path / "best.pt"
    answers = set()
    for place in range(0, len(whole), max(1, len(whole) // 150)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            answers.add(type(trained(path)).__name__)
        except InputError:
            answers.add("InputError")
    assert "InputError" in answers
    assert answers <= {"InputError", "SpecDetector"}


def test_what_this_toolkit_writes_is_read(tmp_path):
    model = create_model(NAME)
    optimizer = torch.optim.AdamW(model.parameters())
    sum(part.sum() for part in model(torch.zeros(1, 3, 56, 56))).backward()
    optimizer.step()
    state = content(
        optimizer=optimizer.state_dict(),
        average=None,
        history=[{"step": 3, "loss": 0.5}],
        best=None,
        seconds=1.5,
    )
    save_checkpoint(tmp_path / "last.pt", state)
    assert load_checkpoint(tmp_path / "last.pt").keys() == state.keys()
    assert torch.equal(
        trained(tmp_path / "last.pt").stem[0].conv.weight, state["model"]["stem.0.conv.weight"]
    )


def test_plain_values_are_read_as_they_are(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.arange(4.0), "b": [1, None, "c", True]}, path)
    state = read_pt(path)
    assert (state["a"].tolist(), state["b"]) == ([0, 1, 2, 3], [1, None, "c", True])
