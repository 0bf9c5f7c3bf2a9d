"""The Python SDK as a runner whose network loses the first answer: `python/lost_answer.py gateway|connection`.

What the SDK sees of the loss is a 504 of something in between, which it answers by itself with a second try, or a
connection that breaks, after which it tries a POST again only if it is told to. Besides what a runner does, it tells
what it has `sent`: each request's Repeatability headers, and its body.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from azure.core.exceptions import ServiceResponseError
from azure.core.pipeline.transport import RequestsTransport
from tests.sdk.python.runner import HELPERS, Runner, serve

REPEATABILITY = ("Repeatability-Request-ID", "Repeatability-First-Sent")


class LosesFirstAnswer(RequestsTransport):  # type: ignore[misc]  # it is Any where requests has no types
    """A transport that delivers every request; the first answer does not come back."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.sent: list[dict[str, Any]] = []
        self._how = how

    def send(self, request: Any, **options: Any) -> Any:
        response = super().send(request, **options)
        self.sent.append({"body": str(request.body), **{name: request.headers.get(name) for name in REPEATABILITY}})
        if len(self.sent) == 1:
            assert response.status_code == 200, response.text()
            if self._how == "connection":
                raise ServiceResponseError("the connection was reset")
            response.status_code = 504
        return response


def main(how: str) -> None:
    transport = LosesFirstAnswer(how)
    of_each = {"retry_on_methods": ["POST"]} if how == "connection" else None
    HELPERS["sent"] = lambda given: {"requests": transport.sent}
    asyncio.run(serve(Runner("sync", of_each, transport=transport)))


if __name__ == "__main__":
    main(sys.argv[1])
