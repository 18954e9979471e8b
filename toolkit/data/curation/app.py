"""FiftyOne's App for this machine alone."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

from toolkit.data.curation.desk import asks_database, fiftyone

ADDRESS = "127.0.0.1"
SERVER = Path(__file__).with_name("app_server.py")


@asks_database
def open_app(view: Any, auto: bool = True) -> Any:
    """FiftyOne's App with a dataset or view.

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
    return fo.launch_app(view, port=port, address=ADDRESS, auto=auto)


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        try:
            with socket.create_server((ADDRESS, port)) as server:
                return int(server.getsockname()[1])
        except OSError:  # somebody's App
            continue
    raise OSError(f"no port of {ADDRESS} is free")
