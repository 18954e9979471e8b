"""A real database for the tests that need FiftyOne."""

import psutil
import pytest

from toolkit.data.curation import fiftyone
from toolkit.data.mongod import check_mongod, database


@pytest.fixture(scope="session")
def fiftyone_database():
    """FiftyOne with a server of its own, gone with everything in it when the tests end."""
    if fault := check_mongod():
        pytest.fail(f"{fault}: the tests run FiftyOne for real")
    with database() as running:
        fiftyone()  # connected from here on
        yield running
    assert not psutil.pid_exists(running.pid)
    assert not running.folder.exists()
