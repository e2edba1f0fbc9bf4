"""Model folders from the hub: one pinned commit, weights only, resumed where a download stopped.

Everything is gathered in a folder of its own beside the target and renamed when the last file is
there and checked, so the target either is complete or does not exist.

The library's own ``snapshot_download`` is not used: it forgets the unfinished file, up to ten
gigabytes, whenever it stops, and what its Xet transport has begun cannot be cancelled.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..checks import check_choice
from ..errors import DownloadError, SetupError
from ..host import Phase, Reporter
from .cancelling import check_cancelled
from .weights import check_packages


@dataclass(frozen=True)
class Release:
    """A model repository at one commit: what it holds can never change."""

    repository: str
    revision: str
    size: int
    """Bytes of the whole commit, for words; what is counted and checked comes from the hub."""


RELEASES = {
    "FireRed-Image-Edit-1.1": Release(
        "FireRedTeam/FireRed-Image-Edit-1.1",
        "3bc3f2a12722fd9883eb6357500de191d56baaf5",
        57_720_463_164,
    ),
}

INDEX = "model_index.json"
"""Makes a folder a model to everybody who looks for one; it is fetched last."""

SPARE_BYTES = 10**9
"""What stays free on the disk."""

# Never pickles or code, and no name that leads out of the folder or hides in it.
_WANTED = re.compile(r"(?:\w[\w.-]*/)*\w[\w.-]*\.(?:safetensors|json|txt|model)", re.ASCII)

_LISTING_TIMEOUT_S = 30.0
_READ_BYTES = 2**22


def find_release(version: str) -> Release:
    """The release of that name; raises ``InputError`` for another."""
    check_choice("version", version, list(RELEASES))
    return RELEASES[version]


def is_complete(folder: Path) -> bool:
    """Whether there is a model folder, so that nothing need be fetched."""
    return (folder / INDEX).is_file()


def download(release: Release, target: Path, host: Reporter) -> Path:
    """Fetch ``release`` into ``target`` and return it; without a request if it is there.

    No token is sent. A download that stopped goes on where it was. Raises ``SetupError``, of which
    ``DownloadError`` where the hub or the way to it failed, and ``EditCancelled``.
    """
    if is_complete(target):
        return target
    check_packages()
    if target.exists():
        raise SetupError(
            f"The folder {target.name} in models/diffusers is not a model: it has no {INDEX}.",
            "Complete, rename or delete it, then run again.",
        )
    partial = target.with_name(f"{target.name}.{release.revision[:8]}.partial")
    with _explaining(release):
        host.phase(Phase(f"asking the hub for {target.name}"))
        files = _list_files(release)
        partial.mkdir(parents=True, exist_ok=True)
        _check_space(files, partial)
        watch = _Watch(host, sum(file.size for file in files))
        for file in files:
            _fetch(release, file, partial, watch)
        partial.rename(target)
    return target


@dataclass(frozen=True)
class _File:
    """A file as the hub describes it. ``digest`` is git's, or a plain sha256 of a large one."""

    name: str
    size: int
    digest: str
    large: bool

    def there(self, folder: Path) -> int:
        """How many of its bytes are in ``folder``, whole or in part."""
        for path in (folder / self.name, self.part(folder)):
            if path.is_file():
                return min(path.stat().st_size, self.size)
        return 0

    def part(self, folder: Path) -> Path:
        return folder / f"{self.name}.part"


class _Watch:
    """Shows how far the download is and ends it on Cancel; stands in for the library's bar."""

    def __init__(self, host: Reporter, total: int) -> None:
        self._host = host
        self._total = total
        self._finished = 0
        self._current = 0
        self._said = ""

    def __call__(self, *, initial: int = 0, **_ignored: Any) -> Self:
        """The library makes a bar per file; ``initial`` bytes of it are there already."""
        self._current = initial
        self.update(0)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Nothing is drawn, so nothing is to be tidied."""

    def update(self, count: int) -> None:
        """``count`` more bytes of the current file have come."""
        self.check()
        self._current += count
        self._show()

    def finish(self, size: int) -> None:
        """The current file, of ``size`` bytes, is complete."""
        self._finished += size
        self._current = 0
        self._show()

    def check(self) -> None:
        """Raise ``EditCancelled`` if the artist pressed Cancel."""
        check_cancelled(self._host)

    def say(self, text: str) -> None:
        """Show ``text``, once for as long as it stays the same."""
        if text != self._said:
            self._said = text
            self._host.phase(Phase(text, clock="download"))

    def _show(self) -> None:
        done = self._finished + self._current
        self._host.progress(done, self._total)
        self.say(f"downloading {done / 1e9:.1f} of {self._total / 1e9:.1f} GB")


def _list_files(release: Release) -> list[_File]:
    """What is to be fetched, the index last."""
    from huggingface_hub import HfApi

    try:
        info = HfApi(token=False).model_info(
            release.repository,
            revision=release.revision,
            files_metadata=True,
            timeout=_LISTING_TIMEOUT_S,
        )
        files = [_described(file) for file in info.siblings if _WANTED.fullmatch(file.rfilename)]
        if info.sha != release.revision or not any(map(_is_index, files)):
            raise ValueError("another commit, or no model")
    except (ValueError, KeyError, TypeError) as error:  # a proxy's own page, say
        raise DownloadError(
            f"What answered in place of the hub does not know {release.repository}.",
            "Check network, proxy and HF_ENDPOINT, or download the model yourself into "
            "models/diffusers.",
        ) from error
    return sorted(files, key=lambda file: (_is_index(file), file.name))


def _described(file: Any) -> _File:
    if file.size is None or not file.blob_id:
        raise ValueError(f"no size or digest of {file.rfilename}")
    if file.lfs:
        return _File(file.rfilename, file.size, file.lfs.sha256, large=True)
    return _File(file.rfilename, file.size, file.blob_id, large=False)


def _is_index(file: _File) -> bool:
    return file.name == INDEX


def _check_space(files: list[_File], folder: Path) -> None:
    needed = sum(file.size - file.there(folder) for file in files)
    free = shutil.disk_usage(folder).free
    if needed and needed + SPARE_BYTES > free:
        raise SetupError(
            f"The model needs {(needed + SPARE_BYTES) / 1e9:.1f} GB of disk space for its "
            f"download, and {free / 1e9:.1f} GB are free.",
            "Make room on the disk of ComfyUI's models, then run again.",
        )


def _fetch(release: Release, file: _File, folder: Path, watch: _Watch) -> None:
    """Bring ``file`` into ``folder`` under its own name, which only a checked one ever has."""
    watch.check()
    if not (folder / file.name).is_file():
        part = file.part(folder)
        part.parent.mkdir(parents=True, exist_ok=True)
        _append(release, file, part, watch)
        watch.say(f"checking {file.name}")
        if _digest(file, part, watch) != file.digest:
            part.unlink()
            raise DownloadError(
                f"{file.name} did not arrive as the hub describes it.",
                "Run again: this file is fetched anew, the others are kept.",
            )
        part.rename(folder / file.name)
    watch.finish(file.size)


def _append(release: Release, file: _File, part: Path, watch: _Watch) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    # Ranges of a compressed answer would not fit together.
    headers = build_hf_headers(token=False, headers={"Accept-Encoding": "identity"})
    url = hf_hub_url(release.repository, file.name, revision=release.revision)
    if part.is_file() and part.stat().st_size > file.size:
        part.unlink()
    with part.open("ab") as opened:
        http_get(
            url,
            opened,
            resume_size=opened.tell(),
            headers=headers,
            expected_size=file.size,
            tqdm_class=watch,
        )


def _digest(file: _File, path: Path, watch: _Watch) -> str:
    digest = hashlib.sha256() if file.large else _git_digest(file.size)
    with path.open("rb") as opened:
        while data := opened.read(_READ_BYTES):
            watch.check()
            digest.update(data)
    return digest.hexdigest()


def _git_digest(size: int) -> Any:
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


_RUN_AGAIN = "Run again: what has arrived is kept."


@contextmanager
def _explaining(release: Release) -> Iterator[None]:
    """Turn what the library raises into errors that say what to do."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled as error:
        raise DownloadError(
            f"{release.repository} cannot be downloaded: HF_HUB_OFFLINE is set.",
            "Unset it and restart ComfyUI, or download the model yourself into models/diffusers.",
        ) from error
    except HfHubHTTPError as error:
        raise _refused(release, error.response.status_code) from error
    except HTTPError as error:  # the base of all errors on the way, under every name it had
        raise DownloadError(
            f"The connection to the hub failed ({type(error).__name__}).",
            f"Check the network and proxy of this machine. {_RUN_AGAIN}",
        ) from error
    except OSError as error:
        raise SetupError(
            f"The model cannot be stored: {error.strerror or 'a file did not arrive whole'}.",
            f"Check the disk of ComfyUI's models. {_RUN_AGAIN}",
        ) from error


def _refused(release: Release, status: int) -> DownloadError:
    if status in (401, 403, 404):
        return DownloadError(
            f"The hub does not offer {release.repository} at the commit this version of the pack "
            f"knows (HTTP {status}).",
            "Update the pack, or download the model yourself into models/diffusers.",
        )
    return DownloadError(f"The hub answered with HTTP {status}.", f"Wait a while. {_RUN_AGAIN}")
