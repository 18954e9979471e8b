"""Names of version 0.1 at their old places: they work, and say where they are now."""

import importlib
from contextlib import nullcontext

import pytest

from toolkit.moved import MOVED

NAMES = [(module, name) for module, names in MOVED.items() for name in names if name != "score"]


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[f"{module}.{name}" for module, name in NAMES])
def test_an_old_name_works_and_tells_its_place(module, name):
    place = importlib.import_module(module)
    # what the module uses itself is there anyway
    silent = name in vars(place)
    with nullcontext() if silent else pytest.warns(DeprecationWarning, match=MOVED[module][name]) as caught:
        old = getattr(place, name)
    if caught is not None:
        assert [warning.filename for warning in caught] == [__file__]  # blames the line that is to be mended
    place, _, new = MOVED[module][name].rpartition(".")
    assert old is getattr(importlib.import_module(place), new)


@pytest.mark.parametrize(("module", "name"), [(m, "nothing") for m in MOVED], ids=list(MOVED))
def test_other_names_are_refused(module, name):
    with pytest.raises(AttributeError, match=name):
        getattr(importlib.import_module(module), name)


def test_modules_that_hide_a_function_are_called_as_it(pictures):
    import toolkit.detect
    from toolkit import evaluation
    from toolkit.evaluation.score import evaluate
    from toolkit.samples import untrained

    model = untrained("yoloface-50k")
    with pytest.warns(DeprecationWarning, match="run.detect"):
        detections = toolkit.detect(model, next(iter(pictures.values())), conf=0.0)
    assert detections.xyxy.shape[1] == 4
    assert callable(evaluation.score)
    assert evaluation.score.evaluate is evaluate
