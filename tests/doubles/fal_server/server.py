"""The whole double: start it, point a client at it, ask it what happened."""

import tempfile
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .api import Api
from .app import App
from .desk import Desk, Request
from .faults import Fault, Phase
from .jobs import Job
from .listener import Listener
from .routes import RUN_PREFIX
from .scheduler import Scheduler
from .settings import USD_PER_UNIT, Settings
from .storage import Storage
from .tls import Authority


@dataclass(kw_only=True, eq=False)
class FalServer(Settings):
    """fal on loopback. There are three ways in, and all lead to the same jobs and files:

    - `url`: plain HTTP;
    - `https_host`: HTTPS with a certificate that `ca_file` vouches for. fal's own client takes it
      as FAL_QUEUE_RUN_HOST, `run_host` as FAL_RUN_HOST and `ca_file` as SSL_CERT_FILE;
    - `url` as HTTPS_PROXY: fal's own host names, intercepted.
    """

    def __post_init__(self) -> None:
        self.storage = Storage()
        self._scheduler = Scheduler(self, App(self, self.storage))
        api = Api(self, self._scheduler, self.storage)
        self._desk = Desk(self, api, self._scheduler.closing)
        self._resources = ExitStack()
        self._lock = threading.Lock()
        self._https: Listener | None = None

    def start(self) -> Self:
        folder = tempfile.TemporaryDirectory(prefix="fal-server-")
        self._authority = Authority(Path(self._resources.enter_context(folder)))
        self._http = self._listen(self.port, secure=False)
        self.port = self._http.port
        return self

    def close(self) -> None:
        """Raises when the double itself went wrong, which no client could have told."""
        self._scheduler.close()
        self._resources.close()
        listeners = [self._http, self._https] if self._https else [self._http]
        defects = [defect for listener in listeners for defect in listener.defects]
        if defects:
            raise RuntimeError("the fal double failed while it served a request") from defects[0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def environment(self) -> dict[str, str]:
        """What leads the pack here, with the account's key."""
        return {
            "FAL_QUEUE_RUN_HOST": self.url,
            "FAL_REST_HOST": self.url,
            "FAL_KEY": self.key,
        }

    @property
    def https_host(self) -> str:
        with self._lock:
            if self._https is None:
                self._https = self._listen(0, secure=True)
            return f"localhost:{self._https.port}"

    @property
    def run_host(self) -> str:
        """Where fal.run is: the same address with a path before the app's."""
        return self.https_host + RUN_PREFIX

    @property
    def ca_file(self) -> Path:
        return self._authority.ca_file

    def fail(self, phase: Phase, fault: Fault, times: int = 1) -> None:
        """Let the next requests of this phase meet the fault; planned faults queue up."""
        self._desk.faults.plan(phase, fault, times)

    @property
    def requests(self) -> list[Request]:
        return self._desk.requests

    def count(self, phase: Phase) -> int:
        return sum(request.phase == phase for request in self.requests)

    @property
    def jobs(self) -> list[Job]:
        """Every job that was accepted, those cancelled in the queue too."""
        return self._scheduler.jobs

    @property
    def billed(self) -> int:
        return sum(job.units > 0 for job in self.jobs)

    @property
    def billed_units(self) -> int:
        return sum(job.units for job in self.jobs)

    @property
    def billed_usd(self) -> float:
        return self.billed_units * USD_PER_UNIT

    def _listen(self, port: int, *, secure: bool) -> Listener:
        listener = Listener(port, self._desk, self._authority, secure=secure)
        self._resources.callback(listener.close)
        return listener
