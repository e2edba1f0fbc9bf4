"""The client and the storage that this machine's key and hosts lead to, as they are now."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import requests

from .journal import Journal
from .keys import find_key
from .protocol.client import FalClient
from .protocol.hosts import Hosts
from .protocol.transport import new_session
from .uploads.storage import Storage


@dataclass(frozen=True)
class Connection:
    """One key, the hosts it is for, and this process's connections to them."""

    key: str
    hosts: Hosts
    session: requests.Session

    def client(self) -> FalClient:
        return FalClient(self.key, self.hosts, self.session)

    def storage(self, journal: Journal, lifetime_s: int) -> Storage | None:
        """fal's storage, if there is one, which keeps for ``lifetime_s`` what is remembered."""
        if self.hosts.rest is None:
            return None
        check = self.hosts.check_upload_base
        remembered = journal.uploads
        return Storage(self.key, self.hosts.rest, check, self.session, remembered, lifetime_s)


def connect(data_folder: Path) -> Connection:
    """Read key and hosts anew; raises ``SetupError`` where there is no key or no usable host."""
    hosts = Hosts.from_environment(os.environ)
    return Connection(find_key(os.environ, data_folder), hosts, session())


@cache
def session() -> requests.Session:
    """One for the process: a connection to fal is opened once."""
    return new_session()
