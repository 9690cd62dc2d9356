"""A small HTTP server on loopback, which answers as a test tells it and remembers what it got."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """What arrived: `path` holds the query too, `authorization` is "" without the header."""

    method: str
    path: str
    authorization: str
    body: bytes

    def json(self) -> Any:
        """Read the body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """What to send back; a `body` that is not bytes goes out as JSON."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        """Return the body as it travels."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class LoopbackServer:
    """Routes by method and path (without the query) to a function from request to answer."""

    url: str = ""
    routes: dict[tuple[str, str], Callable[[Request], Answer]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def answer(self, method: str, path: str, *answers: Answer) -> None:
        """Give these answers one after the other, the last one for ever."""
        left = list(answers)
        self.routes[method, path] = lambda _: left.pop(0) if len(left) > 1 else left[0]

    def paths(self, method: str = "GET") -> list[str]:
        """Return the paths asked for with `method`, in order."""
        return [request.path for request in self.requests if request.method == method]

    def handle(self, request: Request) -> Answer:
        """Remember the request and look the answer up."""
        self.requests.append(request)
        route = self.routes.get((request.method, request.path.partition("?")[0]))
        return route(request) if route else Answer({"detail": "Not found."}, status=404)


def _handler(server: LoopbackServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            signature = self.headers.get("Authorization") or ""
            answer = server.handle(Request(self.command, self.path, signature, body))
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content())))
            self.end_headers()
            self.wfile.write(answer.content())

        do_GET = do_POST = do_PATCH = do_DELETE = _reply  # noqa: N815 - the names http.server wants

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    return Handler


@contextmanager
def loopback_server() -> Iterator[LoopbackServer]:
    """Run a server on a free port for the length of the block."""
    server = LoopbackServer()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(server)) as listener:
        listener.handle_error = lambda *_: None  # a client that hangs up early is part of the tests
        server.url = f"http://127.0.0.1:{listener.server_address[1]}"
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:  # else a test that fails would keep pytest from ending
            listener.shutdown()
            thread.join()
