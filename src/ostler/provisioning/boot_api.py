"""What machines ask on the boot listener: scripts, seeds, pinned image files. Plain HTTP; composed by `app.py`.

A boot script is answered whatever happens, because a machine that gets an error stays idle until somebody walks to it:
trouble of ours becomes a script that waits and asks again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import structlog
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response

from ostler.core.errors import BadInput, NotFound, OstlerError
from ostler.db.engine import Database
from ostler.provisioning import cloud_init, identity, ipxe, service
from ostler.provisioning.model import BootAsk, ProvisioningSettings, Trust

_log = structlog.get_logger()

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LONGEST = 512
"""Characters of one parameter; SMBIOS strings are at most 64."""


def router(db: Database, settings: ProvisioningSettings, trust: Trust) -> APIRouter:
    """`GET /boot/ipxe`, `/boot/{uuid}`, `/seed/{nonce}/…`, `/images/{name}`."""
    api = APIRouter(tags=["boot"])

    @api.get("/boot/ipxe", response_class=PlainTextResponse)
    def boot_ipxe(
        request: Request,
        mac: Annotated[str, Query()] = "",
        serial: Annotated[str, Query()] = "",
        uuid: Annotated[str, Query()] = "",
    ) -> Response:
        """Without a MAC: the first stage, which asks again with the machine's identity."""
        return _script(lambda url: _answer(db, settings, trust, url, (mac, serial, uuid), request), request, settings)

    @api.get("/boot/{uuid}", response_class=PlainTextResponse)
    def boot_uuid(
        request: Request, uuid: str, mac: Annotated[str, Query()] = "", serial: Annotated[str, Query()] = ""
    ) -> Response:
        """The same with the SMBIOS UUID in the path."""
        return _script(lambda url: _answer(db, settings, trust, url, (mac, serial, uuid), request), request, settings)

    def seed(nonce: str) -> cloud_init.Documents:
        if len(nonce) > 128:
            raise NotFound("No boot request has this nonce; boot the node again.")
        return db.read(lambda tx: service.seed(tx, nonce, settings, trust))

    @api.get("/seed/{nonce}/meta-data")
    def meta_data(nonce: str) -> Response:
        return _yaml(seed(nonce).meta_data)

    @api.get("/seed/{nonce}/user-data")
    def user_data(nonce: str) -> Response:
        return _yaml(seed(nonce).user_data)

    @api.get("/seed/{nonce}/vendor-data")
    def vendor_data(nonce: str) -> Response:
        return _yaml(seed(nonce).vendor_data)

    @api.get("/seed/{nonce}/network-config")
    def network_config(nonce: str) -> Response:
        return _yaml(seed(nonce).network_config)

    @api.get("/seed/{nonce}/seed.json")
    def seed_json(nonce: str) -> Response:
        """The agent's seed alone (`wire.boot.Seed`), for images without cloud-init."""
        return Response(seed(nonce).seed, media_type="application/json", headers=_FRESH)

    @api.get("/images/{name}", response_class=FileResponse)
    def image(name: str) -> FileResponse:
        """A pinned kernel, initrd or root image; ranges and conditional requests are answered."""
        if not settings.image_folder or not _FILE_NAME.fullmatch(name):
            raise NotFound("No image has this name.")
        path = Path(settings.image_folder) / name
        if not path.is_file():
            raise NotFound("No image has this name.", where=name)
        return FileResponse(path, media_type="application/octet-stream")

    return api


_FRESH = {"Cache-Control": "no-store"}


def _yaml(text: str) -> Response:
    return PlainTextResponse(text, headers=_FRESH)


def _script(render: Callable[[str], str], request: Request, settings: ProvisioningSettings) -> Response:
    try:
        url = _boot_url(request, settings)
    except BadInput as error:
        return PlainTextResponse(f"ostler: {error}\n", 400)
    try:
        text = render(url)
    except OstlerError as error:
        text = ipxe.wait(str(error), _again(request, url), settings.retry_s)
        _log.warning("boot.not_answered", error=str(error), address=_address(request))
    except Exception:
        # Whatever is wrong with us must not leave a machine idle; it asks again, and the log has the traceback.
        _log.exception("boot.crashed", address=_address(request))
        text = ipxe.wait("Ostler has an internal error; see its log", _again(request, url), settings.retry_s)
    return PlainTextResponse(text, headers=_FRESH)


def _answer(
    db: Database,
    settings: ProvisioningSettings,
    trust: Trust,
    url: str,
    said: tuple[str, str, str],
    request: Request,
) -> str:
    mac, serial, uuid = said
    if not mac:
        return ipxe.first_stage(url, settings.retry_s)
    if any(len(text) > _LONGEST for text in said):
        raise BadInput(f"a parameter has more than {_LONGEST} characters", where="boot request")
    ask: BootAsk = identity.clean(mac, serial, uuid, _address(request))
    served = db.write(lambda tx: service.boot(tx, ask, settings, trust))
    _log.info(
        "boot.served", mac=ask.mac, node=served.node_name, boot=served.decision.boot.value, why=served.decision.why
    )
    return ipxe.script(served, settings, url)


def _boot_url(request: Request, settings: ProvisioningSettings) -> str:
    if settings.boot_url:
        return ipxe.base_url(settings.boot_url, "[provisioning] boot_url")
    return ipxe.base_url(f"http://{request.headers.get('host', '')}", "the Host header of the boot request")


def _again(request: Request, url: str) -> str:
    """The first stage: it sends the machine's identity anew."""
    del request
    return f"{url}/boot/ipxe"


def _address(request: Request) -> str:
    return "" if request.client is None else request.client.host
