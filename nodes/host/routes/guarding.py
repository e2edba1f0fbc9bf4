"""Who may have to do with the fal key: a page that is open on this computer, of a ComfyUI that
nobody else can reach.

Each check stands against somebody:

- the address of the peer, and ComfyUI's own address: another computer;
- the headers of a proxy: another computer whose requests come out of a program on this one;
- ``Host``: a site whose name was made to lead to this computer, for a browser sends that name;
- ``Origin`` and ``Sec-Fetch-Site``: a page of another site or port in a browser on this computer;
- JSON and a header of our own (``answering``): the same by a form or a plain request, which need no
  leave; and with ``--enable-cors-header`` ComfyUI may give that leave, so then it is closed.

A program on this computer that is no browser sends no ``Origin`` and passes: what runs as this
user can read and write the key file as it is.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from aiohttp import web
from comfy.cli_args import args

from .answering import Refused

CLOSED = (
    "The fal key can be set, tested and removed only in a page opened at localhost on the computer "
    "that runs ComfyUI, with ComfyUI reachable from there alone. On a remote ComfyUI set FAL_KEY "
    "in its environment and restart it."
)

_OF_PROXIES = (
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Server",
    "X-Real-IP",
    "CF-Connecting-IP",
    "True-Client-IP",
)


def check_local(request: web.Request) -> None:
    """Raise ``Refused`` unless ``request`` comes from this computer, through nothing else."""
    if not is_local(request):
        raise Refused(403, CLOSED)


def is_local(request: web.Request) -> bool:
    """Whether ``check_local`` lets ``request`` pass."""
    return (
        _server_is_local()
        and _is_loopback(_peer(request))
        and not any(name in request.headers for name in _OF_PROXIES)
        and _is_of_own_page(request)
    )


def _server_is_local() -> bool:
    addresses = str(args.listen).split(",")
    return not args.enable_cors_header and all(map(_is_loopback, map(str.strip, addresses)))


def _peer(request: web.Request) -> str:
    # Not request.remote, which others may have put there from a header.
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return str(peer[0]) if peer else ""


def _is_of_own_page(request: web.Request) -> bool:
    headers = request.headers
    hosts, origins = headers.getall("Host", []), headers.getall("Origin", [])
    sites = headers.getall("Sec-Fetch-Site", [])
    return (
        len(hosts) == 1
        and _is_loopback(_name_in(hosts[0]))
        and all(_netloc(origin) == hosts[0].lower() for origin in origins)
        and all(site in ("same-origin", "none") for site in sites)
    )


def _name_in(host: str) -> str:
    """The name in a Host header; "" where it holds anything but a name and a port."""
    try:
        parts = urlsplit(f"//{host}")
        port = parts.port
    except ValueError:
        return ""
    name = parts.hostname or ""
    shown = f"[{name}]" if ":" in name else name
    return name if host.lower() in (shown, f"{shown}:{port}") else ""


def _netloc(origin: str) -> str:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return parts.netloc.lower() if parts.scheme in ("http", "https") else ""


def _is_loopback(address: str) -> bool:
    try:
        return address.lower() == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
