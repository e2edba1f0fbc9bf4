"""What the page is told of a failure, besides ComfyUI's own notice: our words, and a cure.

ComfyUI's notice says only that a node failed; ``web/errors`` shows this beside it.
"""

from __future__ import annotations

from typing import Literal

from server import PromptServer

from ...pipeline import errors
from ...pipeline.errors import FireRedError

EVENT = "firered.error"

Cure = Literal["settings", "billing", "node"]
"""Where a button leads: to our settings, to fal's page about money, to the node that failed."""

SETTINGS = "Settings > FireRed"
BILLING = "fal.ai/dashboard/billing"

CURES: dict[type[FireRedError], Cure] = {
    FireRedError: "node",
    errors.InputError: "node",
    errors.SetupError: "node",
    errors.MissingPackageError: "node",
    errors.MissingModelError: "node",
    errors.BrokenModelError: "node",
    errors.DownloadError: "node",
    errors.JournalError: "node",
    errors.MissingKeyError: "settings",
    errors.CostError: "node",
    errors.RemoteError: "node",
    errors.RejectedError: "node",
    errors.AccountError: "settings",
    errors.JobFailedError: "node",
    errors.JobGoneError: "node",
    errors.UncertainError: "settings",
    errors.UncollectedError: "settings",
    errors.RemoteTimeoutError: "settings",
    errors.ResultError: "node",
    errors.FlaggedError: "node",
}


def cures_of(error: FireRedError) -> list[Cure]:
    """The buttons of an error, the first the likeliest.

    A remedy that names a place leads there: the daily limit is in the settings, max_cost on the
    node, and both end in ``CostError``.
    """
    table = next(CURES[kind] for kind in type(error).__mro__ if kind in CURES)
    own: Cure = "settings" if SETTINGS in error.remedy else table
    return ["billing", own] if BILLING in error.remedy else [own]


def tell(error: FireRedError, run_id: str, node_id: str) -> None:
    """Tell the page that started the run."""
    server = PromptServer.instance
    if server.client_id is None:
        return
    told = {
        "prompt_id": run_id,
        "node_id": node_id,
        "problem": error.problem,
        "remedy": error.remedy,
        "cures": cures_of(error),
    }
    server.send_sync(EVENT, told, server.client_id)
