"""Folders that some tests read, and pictures and networks that many share."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from toolkit.device.web import engine_files
from toolkit.models import create_model
from toolkit.models.detector import Detector
from toolkit.models.published import can_fetch
from toolkit.runtime import InputError
from toolkit.samples import photographs, untrained

# A shell has what it starts in the background ignore Ctrl-C, and so would all commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _folder(variable: str, what: str) -> Path:
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set: it names the folder with {what}")
    return Path(os.environ[variable])


@pytest.fixture(scope="session")
def page_engine() -> Path:
    """The engine of `toolkit package --web`, which is downloaded once."""
    try:
        return engine_files()
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def zoo() -> Path:
    return _folder("TOOLKIT_ZOO", "the seed's published files")


@pytest.fixture(scope="session")
def data() -> Path:
    return _folder("TOOLKIT_DATA", "the data sets")


@pytest.fixture(scope="session")
def reference() -> Path:
    return _folder("TOOLKIT_REFERENCE", "darknet's own outputs")


@pytest.fixture(scope="session")
def pictures() -> dict[str, np.ndarray]:
    return photographs()


@pytest.fixture(scope="session")
def trained(zoo):
    """name -> the network with its published weights, or a calibrated random one where none exist."""

    def build(name: str) -> Detector:
        has_weights = can_fetch(f"{name}/{name}.weights")
        return create_model(name, "published") if has_weights else untrained(name)

    return build
