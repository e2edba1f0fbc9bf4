"""A certificate authority that lives as long as one server."""

import ssl
from functools import cached_property
from pathlib import Path

import trustme

from .routes import INTERCEPTED_HOSTS


class Authority:
    """Makes nothing before it is asked: most servers are never spoken to over TLS.

    A client cannot trust the authority before somebody has asked for `ca_file`, so connections
    that race for the certificate find the authority made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _ca(self) -> trustme.CA:
        return trustme.CA()

    @cached_property
    def ca_file(self) -> Path:
        path = self._folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(path))
        return path

    @cached_property
    def context(self) -> ssl.SSLContext:
        """One certificate for every name, so that one context serves them all."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate = self._ca.issue_cert("localhost", "127.0.0.1", *INTERCEPTED_HOSTS)
        certificate.configure_cert(context)
        return context
