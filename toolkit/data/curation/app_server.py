"""The server of FiftyOne's App, as a script: it listens on 127.0.0.1 and sends the pictures of its datasets.

FiftyOne's own server listens on every address in a container, answers pages from elsewhere that give this
machine a name of theirs, and sends any file that the user may read. It also takes a page that is loaded again
for one that closes, and one that goes before it is answered for open.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

HOSTS = ["127.0.0.1", "localhost"]


class Pages:
    """Counts the pages that listen to FiftyOne's events, and answers /pages with how many there are and were,
    and for how many seconds there has been none. A page is gone when its connection is: what answers it may
    hang for ever."""

    def __init__(self, app: Any) -> None:
        self.app, self.now, self.ever, self.left = app, 0, 0, time.monotonic()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path")
        if path == "/pages":
            seconds = 0 if self.now else time.monotonic() - self.left
            answer = json.dumps({"now": self.now, "ever": self.ever, "seconds": seconds}).encode()
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": answer})
        elif path == "/events" and not _is_session(scope):
            messages: asyncio.Queue[Any] = asyncio.Queue()
            watcher = asyncio.ensure_future(self._watch(receive, messages))
            try:
                await self.app(scope, messages.get, send)
            finally:
                watcher.cancel()
        else:
            await self.app(scope, receive, send)

    async def _watch(self, receive: Any, messages: asyncio.Queue[Any]) -> None:
        self.now, self.ever = self.now + 1, self.ever + 1
        message = {"type": ""}
        try:
            while message["type"] != "http.disconnect":
                message = await receive()
                messages.put_nowait(message)
        finally:
            self.now, self.left = self.now - 1, time.monotonic()


def _is_session(scope: Any) -> bool:
    """Whether it is FiftyOne's session in Python that asks, which listens as well."""
    return any(key == b"user-agent" and b"python-requests" in value for key, value in scope["headers"])


def serve_app(port: int) -> None:
    """Serve at a port of 127.0.0.1 until the process ends."""
    os.environ.pop("FIFTYONE_DISABLE_SERVICES", None)  # set for FiftyOne's own guard of this process
    os.environ["FIFTYONE_SERVER"] = "1"
    from fiftyone.core.odm import get_db_conn
    from fiftyone.server.app import app
    from fiftyone.server.events import set_port
    from fiftyone.server.routes.media import Media
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import Response
    from starlette.routing import Route

    def is_picture(path: str) -> bool:
        database = get_db_conn()
        names = (entry["sample_collection_name"] for entry in database.datasets.find())
        return any(database[name].find_one({"filepath": path}) for name in names)

    class Pictures(Media):  # type: ignore[misc]
        async def get(self, request: Any) -> Response:
            path = request.query_params.get("filepath", "")
            if not await asyncio.to_thread(is_picture, path):
                return Response("Not found", 404)
            response: Response = await super().get(request)
            return response

    routes = app.router.routes
    (media,) = (route for route in routes if getattr(route, "endpoint", None) is Media)
    routes[routes.index(media)] = Route(media.path, Pictures)
    app.add_middleware(Pages)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    set_port(port)
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    asyncio.run(serve(app, config))


if __name__ == "__main__":
    serve_app(int(sys.argv[1]))
