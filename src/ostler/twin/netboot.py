"""From power-on to a seed: the boot script, the image's headers, the NoCloud documents. Called by `node.py`.

It is a generator, so that a thousand booting machines need no thread each: it yields the real seconds to wait and ends
with the seed, or with None when the machine was told to boot from its own disk. Plain HTTP without proxies.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Generator
from urllib.parse import urlsplit

from ostler.core.errors import BadInput, OstlerError, Unreachable
from ostler.twin import ipxe
from ostler.twin.spec import NodeSpec
from ostler.wire.boot import Seed
from ostler.wire.decode import decode

TIMEOUT_S = 10.0
"""Real seconds for connecting and for each wait for bytes."""
DOCUMENTS = ("meta-data", "user-data", "vendor-data", "network-config")
"""What cloud-init asks for; a missing one is a failed boot."""
BODY_LIMIT = 1 << 20
RETRY_S = 5.0
"""Real seconds before a machine whose boot failed is tried again, as an automatic restart would."""

_SEED_FILE = re.compile(r"path: /etc/ostler/seed\.json\b")
_DATASOURCE = re.compile(r"\bds=nocloud(?:-net)?;s=(http://[^\s;]+)")


def boot(spec: NodeSpec, boot_url: str, *, images: bool = True) -> Generator[float, None, Seed | None]:
    """Boots one machine. `images` False skips the kernel and initrd (a boot server in a test has none).

    Never ends while the boot server asks it to wait. Raises `OstlerError` for what a real machine would hang on.
    """
    settings = {"net0/mac": spec.mac, "serial": spec.serial, "uuid": spec.uuid}
    script = ipxe.interpret(f"{ipxe.MAGIC}\n:again\nchain {boot_url}/boot/ipxe || sleep 5\ngoto again\n", settings)
    answer: str | None = None
    while True:
        try:
            ask = script.send(answer)
        except StopIteration as stop:
            end: ipxe.End = stop.value
            break
        answer = None
        if isinstance(ask, ipxe.Sleep):
            yield ask.seconds
        elif ask.body or images:
            try:
                answer = fetch(ask.url, body=ask.body)
            except OstlerError:
                answer = None
        else:
            answer = ""
    if isinstance(end, ipxe.Local):
        return None
    found = _DATASOURCE.search(end.arguments)
    if found is None:
        raise BadInput("the kernel's command line names no NoCloud seed", where="boot script")
    documents = {name: fetch(found[1] + name) for name in DOCUMENTS}
    return seed_in(documents["user-data"])


def fetch(url: str, *, body: bool = True) -> str:
    """A document of the boot server; without `body` only its first byte is asked for. Raises `Unreachable`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadInput(f"no URL ({error})", where=url[:200]) from None
    if parts.scheme != "http" or not host:
        raise BadInput("a boot loader without certificates fetches http:// only", where=url[:200])
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        connection.request("GET", path, headers={} if body else {"Range": "bytes=0-0"})
        response = connection.getresponse()
        raw = response.read(BODY_LIMIT if body else 1)
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"the boot server does not answer ({error})", where=url) from None
    finally:
        connection.close()
    if response.status not in (200, 206):
        raise Unreachable(f"the boot server answered {response.status}", where=url)
    return raw.decode("utf-8", "replace")


def seed_in(user_data: str) -> Seed:
    """The seed that cloud-init would write to the node's disk. Raises `BadInput`.

    Reads just enough YAML for the one scalar: quoted in either way, on one line.
    """
    where = "user-data"
    if not user_data.startswith("#cloud-config"):
        raise BadInput("this is no cloud-config", where=where)
    path = _SEED_FILE.search(user_data)
    entry = user_data[path.start() :] if path is not None else ""
    content = re.search(r"content: (?=[\"'{])", entry)
    if content is None:
        raise BadInput("it writes no /etc/ostler/seed.json", where=where)
    raw = entry[content.end() :]
    try:
        if raw.startswith('"'):
            raw = json.JSONDecoder().raw_decode(raw)[0]
        elif raw.startswith("'"):
            raw = raw[1:].replace("''", "'")
        value = json.JSONDecoder().raw_decode(raw)[0]
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the seed in it is no JSON ({error})", where=where) from None
    return decode(Seed, json.dumps(value).encode())
