"""The server of FiftyOne's App, as a script: it listens on 127.0.0.1 and sends the pictures of its datasets.

FiftyOne's own server listens on every address in a container, answers pages from elsewhere that give this
machine a name of theirs, and sends any file that the user may read. It also counts a page that goes before or
while it is answered as open for ever, so that nobody learns when the last one closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import Any

HOSTS = ["127.0.0.1", "localhost"]


def serve_app(port: int) -> None:
    """Serve at a port of 127.0.0.1 until the process ends."""
    os.environ.pop("FIFTYONE_DISABLE_SERVICES", None)  # set for FiftyOne's own guard of this process
    os.environ["FIFTYONE_SERVER"] = "1"
    from fiftyone.core.odm import get_db_conn
    from fiftyone.server.app import app
    from fiftyone.server.events import listener, set_port
    from fiftyone.server.events.state import decrement_app_count, get_listeners
    from fiftyone.server.routes import events as routes_of_events
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

    initialize = listener.initialize_listener

    async def initialized(payload: Any) -> Any:
        task = asyncio.ensure_future(initialize(payload))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:  # the page is gone
            task.add_done_callback(forget)
            raise

    def forget(task: Any) -> None:
        for name, each in task.result().request_listeners:
            get_listeners()[name].discard(each)
        if task.result().is_app:
            decrement_app_count()

    answers = routes_of_events.add_event_listener

    async def answered(request: Any, payload: Any) -> Any:
        events = answers(request, payload)
        try:
            async for event in events:
                yield event
        except GeneratorExit:  # the page went while it was sent an event; FiftyOne knows of cancelling only
            with contextlib.suppress(asyncio.CancelledError):
                await events.athrow(asyncio.CancelledError())
            raise

    listener.initialize_listener = initialized
    routes_of_events.add_event_listener = answered
    routes = app.router.routes
    (media,) = (route for route in routes if getattr(route, "endpoint", None) is Media)
    routes[routes.index(media)] = Route(media.path, Pictures)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    set_port(port)
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    asyncio.run(serve(app, config))


if __name__ == "__main__":
    serve_app(int(sys.argv[1]))
