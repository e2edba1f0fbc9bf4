"""Who may do what: fal's words for a key that is missing, malformed, unknown or out of credit."""

from .faults import Phase
from .replies import Call, Reply
from .settings import Settings
from .storage import Storage

OPEN_PHASES: frozenset[Phase] = frozenset({"get", "unknown"})
BILLED_PHASES: frozenset[Phase] = frozenset({"submit", "run"})

MISSING = "Authentication is required to access this application."
MALFORMED = "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'."
UNKNOWN = "No user found for Key ID and Secret"
LOCKED = (
    "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."
)


def refusal(phase: Phase, call: Call, settings: Settings, storage: Storage) -> Reply | None:
    authorization = call.headers.get("authorization", "")
    if phase in OPEN_PHASES:
        return None
    if phase == "upload":
        return _upload_refusal(call, authorization, storage)
    if authorization != f"Key {settings.key}":
        return Reply.detail(401, _complaint(authorization))
    if settings.locked and phase in BILLED_PHASES:
        return Reply.detail(403, LOCKED)
    return None


def _upload_refusal(call: Call, authorization: str, storage: Storage) -> Reply | None:
    # The address of a PUT is signed: whoever has it may upload, with any header or none.
    if call.method == "PUT" or storage.admits(authorization):
        return None
    return Reply.detail(401, "Invalid or expired upload token.")


def _complaint(authorization: str) -> str:
    scheme, _, credentials = authorization.partition(" ")
    if not authorization:
        return MISSING
    return UNKNOWN if scheme == "Key" and ":" in credentials else MALFORMED
