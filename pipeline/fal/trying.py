"""Whether fal knows a key: asked of its request history, which costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import AccountError, RemoteError, RemoteTimeoutError, SetupError
from .connecting import Connection
from .finishing import never
from .protocol.answers import read_object
from .protocol.hosts import ENDPOINT
from .protocol.reading import answering
from .protocol.refusals import ACCOUNT, refused
from .protocol.repeating import Again, repeat
from .protocol.transport import Wire

PATIENCE_S = 3.0
"""How long it is asked again where no answer comes: somebody is looking on."""

TIMEOUT_S = (5.0, 10.0)


@dataclass(frozen=True)
class Verdict:
    """``reason`` is what is to be done, in words; empty for a key that works."""

    outcome: Literal["works", "refused", "unreachable"]
    reason: str = ""


def try_key(connection: Connection) -> Verdict:
    """Ask fal about the key of ``connection``; ``SetupError`` where there is nothing free to ask.

    An account without credit may pass: that shows only once something is ordered.
    """
    if connection.hosts.api is None:
        raise SetupError(
            "FAL_QUEUE_RUN_HOST leads to a server of your own, which has no history to ask.",
            "Name one in FAL_REST_HOST, or try the key with a small edit.",
        )
    wire = Wire(connection.key, connection.session)
    url = f"{connection.hosts.api}/v1/models/requests/by-endpoint"
    try:
        repeat(lambda: _ask(wire, url), never, PATIENCE_S, _give_up)
    except AccountError as error:
        return Verdict("refused", str(error))
    except RemoteError as error:
        return Verdict("unreachable", str(error))
    return Verdict("works")


def _ask(wire: Wire, url: str) -> None:
    query = {"endpoint_id": ENDPOINT, "limit": "1"}
    reply = answering(lambda: wire.ask("GET", url, TIMEOUT_S, params=query), url)
    if reply.status in ACCOUNT:
        raise refused(reply, wire.key)
    if not reply.succeeded:
        raise Again(f"fal answers with status {reply.status}.")
    try:
        read_object(reply.body)
    except ValueError:
        # A network that wants a login answers everything with its own page.
        raise Again("What answers in fal's place is not fal.") from None


def _give_up(failure: Again) -> RemoteTimeoutError:
    return RemoteTimeoutError(failure.problem, "Check the internet connection and try again.")
