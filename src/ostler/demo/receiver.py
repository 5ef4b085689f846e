"""The demo's own webhook consumer: verifies every delivery with the SDK, as a stranger's would. For `cli/demo.py`."""

from __future__ import annotations

import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ostler.sdk.webhooks import BODY_LIMIT, VerificationError, verify


class Receiver:
    """Listens on 127.0.0.1; counts what came and what was genuine."""

    def __init__(self) -> None:
        self.secret = secrets.token_urlsafe(32)
        self.delivered = 0
        self.verified = 0
        self.repeated = 0
        self.refused: list[str] = []
        self._seen: set[str] = set()
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                size = self.headers.get("Content-Length", "")
                body = self.rfile.read(min(int(size), BODY_LIMIT + 1)) if size.isdecimal() else b""
                self.send_response(204 if receiver.take(body, list(self.headers.items())) else 401)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet: the demo's page says how many came."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="receiver", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, body: bytes, headers: list[tuple[str, str]]) -> bool:
        """One delivery; True when it is from who holds the secret."""
        try:
            event = verify(body, headers, [self.secret])
        except VerificationError as error:
            with self._lock:
                self.delivered += 1
                self.refused.append(str(error))
            return False
        with self._lock:
            self.delivered += 1
            self.verified += 1
            self.repeated += event.id in self._seen
            self._seen.add(event.id)
        return True
