"""FiftyOne's App for this machine alone."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from typing import Any

from toolkit.data.curation.desk import POINTS, TRUTH, asks_database, fiftyone
from toolkit.data.curation.features import MAP
from toolkit.runtime import InputError
from toolkit.viz import ON_PICTURES

ADDRESS = "127.0.0.1"
RELOAD_SECONDS = 5.0  # in which a page that goes may come back
SERVER = Path(__file__).with_name("app_server.py")


@asks_database
def open_app(view: Any, auto: bool = True) -> Any:
    """FiftyOne's App with a dataset or view: one colour for each class, the map of the pictures in a tab
    (Embeddings) where `add_map` has made one, and boxes of the dataset's classes to draw under Annotate.

    Args:
        view: to show.
        auto: show it in the output of a notebook's cell.

    Returns:
        FiftyOne's session: `url`, `wait()`, `close()`. The server ends with it, or with this process.
    """
    fo = fiftyone()
    from fiftyone.core.service import ServerService
    from fiftyone.core.session import session as sessions

    class Server(ServerService):  # type: ignore[misc]  # FiftyOne has no types
        @property
        def command(self) -> list[str]:
            return [sys.executable, "-P", str(SERVER), str(self.port)]

    port = _free_port(fo.config.default_app_port)
    # FiftyOne starts a server of its own where it knows of none at the port
    sessions._server_services[port] = Server(port, ADDRESS, do_not_track=True)
    prepare_annotation(view._root_dataset)
    colour_classes(view._root_dataset)
    return fo.launch_app(view, port=port, address=ADDRESS, auto=auto, spaces=_panels(view._root_dataset))


def wait_for_pages(session: Any) -> None:
    """Waits until the last page of the App has been closed for `RELOAD_SECONDS`; a page that is loaded again
    within them was not closed.

    Args:
        session: what `open_app` gives.

    Raises:
        InputError: the server has ended.
    """
    import requests

    while True:
        try:
            pages = requests.get(f"http://{ADDRESS}:{session.server_port}/pages", timeout=30).json()
        except requests.exceptions.RequestException as error:
            raise InputError(f"FiftyOne's App has ended ({type(error).__name__}): start it again") from None
        if pages["ever"] and pages["seconds"] > RELOAD_SECONDS:
            return
        time.sleep(1)


@asks_database
def prepare_annotation(fo_dataset: Any) -> None:
    """What the App's Annotate offers: boxes of the dataset's classes, with `ignore` and `iscrowd`."""
    (schema,) = fo_dataset.generate_label_schemas([TRUTH], scan_samples=False).values()
    flags = [each for each in schema["attributes"] if each["name"] in ("ignore", "iscrowd")]
    schema |= {"attributes": flags, "component": "dropdown", "classes": list(fo_dataset.default_classes)}
    fo_dataset.set_label_schemas({TRUTH: schema})
    fo_dataset.activate_label_schemas(TRUTH)


@asks_database
def colour_classes(fo_dataset: Any) -> None:
    """Boxes in the colour of their class, the same as in this project's drawings."""
    classes = fo_dataset.default_classes
    colours = [{"value": name, "color": ON_PICTURES[i % len(ON_PICTURES)]} for i, name in enumerate(classes)]
    fields = [
        {"path": path, "colorByAttribute": "label", "valueColors": colours}
        for path in (TRUTH, "predictions", POINTS)
        if path in fo_dataset.get_field_schema()
    ]
    pool = list(ON_PICTURES)
    fo_dataset.app_config.color_scheme = fiftyone().ColorScheme(
        color_by="value", color_pool=pool, fields=fields
    )
    fo_dataset.save()


def _panels(fo_dataset: Any) -> Any:
    """The pictures, and their map in a tab behind them where there is one; None for what the App shows by
    itself."""
    if MAP not in fo_dataset.list_brain_runs():
        return None
    fo = fiftyone()
    pictures = fo.Panel(type="Samples", pinned=True)
    tabs = [pictures, fo.Panel(type="Embeddings", state={"brainResult": MAP})]
    return fo.Space(children=tabs, active_child=pictures.component_id)


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        try:
            with socket.create_server((ADDRESS, port)) as server:
                return int(server.getsockname()[1])
        except OSError:  # somebody's App
            continue
    raise OSError(f"no port of {ADDRESS} is free")
