"""An app whose network loses the answer to answerCall: the SDK asks again, and there has to be one call.

`lost_answer.py gateway|connection`: what the SDK sees of the loss is a 504 of something in between, which it answers
by itself with a second try, or a connection that breaks, after which it tries a POST again only if it is told to.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from typing import Any

from azure.communication.callautomation import CallAutomationClient
from azure.core.exceptions import ServiceResponseError
from azure.core.pipeline.transport import RequestsTransport

STAGE = os.environ["STAGE"]
REPEATABILITY = ("Repeatability-Request-ID", "Repeatability-First-Sent")


class LosesFirstAnswer(RequestsTransport):  # type: ignore[misc]  # it is Any where requests has no types
    """A transport that delivers every request; the first answer does not come back."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.sent: list[tuple[dict[str, str], bytes]] = []
        self._how = how

    def send(self, request: Any, **options: Any) -> Any:
        response = super().send(request, **options)
        self.sent.append((dict(request.headers), request.body))
        if len(self.sent) == 1:
            assert response.status_code == 200, response.text()
            if self._how == "connection":
                raise ServiceResponseError("the connection was reset")
            response.status_code = 504
        return response


def ask(what: str, body: bytes | None = None) -> Any:
    """Ask the stage, see conftest.py."""
    with urllib.request.urlopen(f"{STAGE}/{what}", body) as answer:
        return json.load(answer)


def main(how: str) -> None:
    context = ask("call", b"")["incomingCallContext"]
    transport = LosesFirstAnswer(how)
    options: dict[str, Any] = {"retry_on_methods": ["POST"]} if how == "connection" else {}
    client = CallAutomationClient.from_connection_string(os.environ["ACS_CONNECTION_STRING"], transport=transport)
    id = client.answer_call(context, f"{STAGE}/callbacks", **options).call_connection_id
    assert id is not None

    (first, first_body), (second, second_body) = transport.sent
    assert [first[name] for name in REPEATABILITY] == [second[name] for name in REPEATABILITY]
    assert first_body == second_body
    ask(f"event?type=CallConnected&connection={id}")
    connection = client.get_call_connection(id)
    assert connection.get_call_properties().call_connection_state == "connected"
    connection.hang_up(is_for_everyone=True)
    ask(f"event?type=CallDisconnected&connection={id}")
    client.close()


if __name__ == "__main__":
    main(sys.argv[1])
