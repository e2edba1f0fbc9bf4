"""How a job ends. fal knows no failed state: every job completes, and its result tells."""

from dataclasses import dataclass
from typing import Any, Self

INFRASTRUCTURE_ERRORS = {
    "request_timeout": 504,
    "startup_timeout": 504,
    "runner_scheduling_failure": 503,
    "runner_connection_timeout": 503,
    "runner_disconnected": 503,
    "runner_connection_refused": 503,
    "runner_connection_error": 503,
    "runner_incomplete_response": 502,
    "runner_server_error": 500,
    "internal_error": 500,
    "client_cancelled": 499,
    "client_disconnected": 499,
}


@dataclass(frozen=True)
class Outcome:
    status: int
    document: dict[str, Any]
    units: int = 0
    error_type: str | None = None

    @classmethod
    def refused(cls, detail: list[dict[str, Any]] | str) -> Self:
        """The input is at fault; the status shows nothing of it, only the result does."""
        return cls(422, {"detail": detail})

    @classmethod
    def failed(cls, error_type: str, detail: str) -> Self:
        """fal or the runner is at fault; never billed."""
        document = {"detail": detail, "error_type": error_type}
        return cls(INFRASTRUCTURE_ERRORS[error_type], document, error_type=error_type)

    @property
    def headers(self) -> dict[str, str]:
        if self.error_type is None:
            return {"X-Fal-Billable-Units": str(self.units)}
        headers = {"X-Fal-Error-Type": self.error_type}
        if self.error_type == "request_timeout":
            headers["X-Fal-Request-Timeout-Type"] = "user"
        return headers


CANCELLED = Outcome.failed("client_cancelled", "Request was cancelled by the client.")
OVERDUE = Outcome.failed("request_timeout", "Request did not start in the time it allowed.")
