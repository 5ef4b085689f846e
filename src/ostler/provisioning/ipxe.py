"""iPXE scripts: text for a boot loader that has no second chance. Pure; called by `boot_api.py`.

A 404, or a script that ends, leaves a machine idle at "No bootable device" until somebody walks to it. So every script
here ends in booting, in the machine's own disk, or in a sleep and another try; there is no other end. Nothing that a
machine sent is copied into a script except in the strict spelling that `identity.clean` leaves.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from ostler.core.errors import BadInput
from ostler.provisioning.model import Boot, ProvisioningSettings, Served

_BASE_URL = re.compile(r"https?://[A-Za-z0-9.\-_\[\]:]+(/[A-Za-z0-9._~/-]*)?")
_PLAIN = re.compile(r"[^ -~]")


def base_url(text: str, where: str) -> str:
    """A base URL without its last slash. Raises `BadInput` for what could break out of a script."""
    if _BASE_URL.fullmatch(text) is None:
        raise BadInput("expected http://HOST[:PORT][/PATH] of plain characters", where=where)
    return text.rstrip("/")


def first_stage(boot_url: str, retry_s: int) -> str:
    """What DHCP points at: asks again with the machine's identity, for ever. `:uristring` quotes what SMBIOS holds."""
    return (
        "#!ipxe\n"
        ":ask\n"
        f"chain --replace --autofree {boot_url}/boot/ipxe?mac=${{net0/mac}}&serial=${{serial:uristring}}&uuid=${{uuid}}"
        " || goto wait\n"
        ":wait\n"
        f"echo Ostler does not answer at {boot_url}; asking again in {retry_s} s\n"
        f"sleep {retry_s}\n"
        "goto ask\n"
    )


def wait(why: str, again_url: str, retry_s: int) -> str:
    """Sleep, then ask again. `why` is shown on the machine's screen."""
    return (
        "#!ipxe\n"
        ":wait\n"
        f"echo Ostler: {_line(why)}\n"
        f"echo asking again in {retry_s} s\n"
        f"sleep {retry_s}\n"
        f"chain --replace --autofree {again_url} || goto wait\n"
    )


def local(why: str) -> str:
    """The next boot device of the machine."""
    return f"#!ipxe\necho Ostler: {_line(why)}\necho going on with the next boot device\nexit\n"


def image(served: Served, settings: ProvisioningSettings, boot_url: str) -> str:
    """Kernel, initrd, and where the seed is. After a failure the machine asks from the start, for a fresh token."""
    seed = f"{boot_url}/seed/{quote(served.nonce, safe='')}/"
    arguments = " ".join(_line(settings.kernel_arguments).split())
    return (
        "#!ipxe\n"
        f"echo Ostler: {_line(served.node_name)} boots its pinned image\n"
        f"kernel --name vmlinuz {_url(settings.kernel_url, boot_url)} initrd=initrd"
        f" ds={settings.datasource};s={seed}{' ' + arguments if arguments else ''} || goto again\n"
        f"initrd --name initrd {_url(settings.initrd_url, boot_url)} || goto again\n"
        "boot || goto again\n"
        ":again\n"
        "imgfree\n"
        f"sleep {settings.retry_s}\n"
        f"chain --replace --autofree {again_url(served, boot_url)} || goto again\n"
    )


def script(served: Served, settings: ProvisioningSettings, boot_url: str) -> str:
    """The script for one decision."""
    match served.decision.boot:
        case Boot.IMAGE:
            return image(served, settings, boot_url)
        case Boot.LOCAL:
            return local(served.decision.why)
        case Boot.WAIT:
            return wait(served.decision.why, again_url(served, boot_url), settings.retry_s)


def again_url(served: Served, boot_url: str) -> str:
    """The boot request that led here, once more."""
    ask = served.ask
    if not ask.mac:
        return f"{boot_url}/boot/ipxe"
    return f"{boot_url}/boot/ipxe?mac={ask.mac}&serial={quote(ask.serial, safe='')}&uuid={quote(ask.uuid, safe='')}"


def _url(text: str, boot_url: str) -> str:
    return boot_url + text if text.startswith("/") else text


def _line(text: str) -> str:
    """One line of printable ASCII without what iPXE expands or splits at."""
    return _PLAIN.sub("?", text).replace("${", "$ {").replace("||", "|").replace("&&", "&")[:400]
