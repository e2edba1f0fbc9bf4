"""Calls fal's own client: a line of JSON asks for a method, another brings back what it did."""

import json
import sys
from typing import Any

import fal_client
from PIL import Image


def _plain(value: Any) -> Any:
    if isinstance(value, fal_client.SyncRequestHandle):
        return value.request_id
    return {"state": type(value).__name__, **vars(value)}


def _call(client: fal_client.SyncClient, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    updates: list[Any] = []
    if method == "subscribe":
        arguments["on_queue_update"] = updates.append
    if method == "upload_image":
        arguments["image"] = Image.open(arguments["image"])
    try:
        value = getattr(client, method)(**arguments)
    except fal_client.FalClientHTTPError as error:
        return {"status": error.status_code, "type": error.error_type, "message": error.message}
    return {"value": value, "updates": updates}


def main() -> None:
    client = fal_client.SyncClient()
    for line in sys.stdin:
        method, arguments = json.loads(line)
        sys.stdout.write(json.dumps(_call(client, method, arguments), default=_plain) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
