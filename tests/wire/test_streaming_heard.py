"""The extension by which an app learns what was heard, and marks (contract 4.8)."""

from offhook.wire import streaming
from offhook.wire.streaming import Mark, parse


def test_golden_messages_to_the_app() -> None:
    assert streaming.heard_data(1234.5, 80.0) == b'{"kind":"HeardData","heardData":{"heardMs":1234.5,"flushedMs":80.0}}'
    assert streaming.mark_data("m1", "Cancelled") == (
        b'{"kind":"MarkData","markData":{"id":"m1","status":"Cancelled"}}'
    )


def test_a_mark_of_the_app_is_understood() -> None:
    assert streaming.mark_data_out('m"1') == b'{"Kind":"MarkData","MarkData":{"Id":"m\\"1"}}'
    assert parse(streaming.mark_data_out('m"1')) == Mark('m"1')
