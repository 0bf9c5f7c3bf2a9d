import base64
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.wire.ids import (
    MAX_CONTEXT,
    MAX_RAW_ID,
    IdMint,
    Place,
    context_token,
    locate,
    parse_address,
    stable_user,
)

RESOURCE = "2dee53b4-368b-45b4-ab52-8493fb117652"
GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@given(st.integers(0, 4095), st.integers(0, 255), st.integers(0, 4095))
def test_a_guid_says_where_it_was_made_and_is_a_version_4_guid(node: int, worker: int, epoch: int) -> None:
    guid = IdMint(node, worker, epoch).guid()
    assert GUID.fullmatch(guid)
    assert uuid.UUID(guid).version == 4
    assert locate(guid) == Place(node, worker, epoch)


@pytest.mark.parametrize(("node", "worker", "epoch"), [(4096, 0, 0), (0, 256, 0), (0, 0, 4096), (-1, 0, 0)])
def test_a_place_that_does_not_fit_is_refused(node: int, worker: int, epoch: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        IdMint(node, worker, epoch)


def test_guids_differ_in_every_bit_that_is_not_fixed() -> None:
    low, high = IdMint(entropy=lambda n: b"\0" * n).guid(), IdMint(entropy=lambda n: b"\xff" * n).guid()
    assert (low, high) == ("00000000-0000-4000-8000-000000000000", "00000000-ffff-4fff-bfff-ffffffffffff")


@pytest.mark.parametrize(
    "guid",
    [
        "",
        "x",
        "6e11bb3a-e6c4-11f1-bdec-02fc00000001",  # version 1
        "4CD10473-B6DA-49A7-A2C3-7245008EF3AB ",
        "80cd816b-274c-4a8b-aef0-0fecd953acf0\n",
    ],
)
def test_what_no_mint_made_cannot_be_located(guid: str) -> None:
    with pytest.raises(ValueError, match="GUID"):
        locate(guid)


def test_server_call_id_is_padded_base64_of_a_url_of_the_recorded_form() -> None:
    url = base64.b64decode(IdMint().server_call_id(), validate=True).decode()
    form = r"https://offhook\.invalid/api/v2/cp/conv-[\w.-]+/conv/[A-Za-z0-9_-]{22}\?i=[0-9-]+&e=[0-9]{18}"
    assert re.fullmatch(form, url)


def test_a_conversation_has_one_server_call_id() -> None:
    mint = IdMint()
    call = mint.guid()
    assert mint.server_call_id(call) == IdMint(node=7).server_call_id(call)
    assert mint.server_call_id() != mint.server_call_id()


def test_incoming_call_context_is_a_jwt_without_signature_that_holds_the_token() -> None:
    context, token = IdMint().incoming_call_context()
    header, payload, signature = context.split(".")
    assert base64.urlsafe_b64decode(header + "==") == b'{"alg":"none","typ":"JWT"}'
    assert set(json_keys(payload)) == {"cc", "shrToken"}
    assert signature == ""
    assert context_token(context) == token
    assert len(base64.urlsafe_b64decode(token + "=")) * 8 >= 128


def json_keys(payload: str) -> list[str]:
    text = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
    return re.findall(r'"(\w+)":', text)


def test_contexts_do_not_repeat() -> None:
    assert len({IdMint().incoming_call_context()[1] for _ in range(100)}) == 100


def test_foreign_contexts_have_no_token() -> None:
    context, _ = IdMint().incoming_call_context()
    header = context.partition(".")[0]
    payloads = [b"[]", b"{}", b'{"shrToken":"short"}', b'{"shrToken":1}', b"\xff", b"[" * 20_000]
    foreign = [
        "",
        "garbage",
        context[:-1],
        context + "x",
        context.replace(".", "", 1),
        f"{header}..",
        f"{header}.%%%.",
        f"{header}.é.",
        *(f"{header}.{base64.urlsafe_b64encode(payload).decode()}." for payload in payloads),
    ]
    assert [context_token(text) for text in foreign] == [None] * len(foreign)


def test_a_context_beyond_the_bound_is_not_read() -> None:
    token = "A" * 43
    header = IdMint().incoming_call_context()[0].partition(".")[0]

    def context(padding: int) -> str:
        payload = b'{"shrToken":"%s","cc":"%s"}' % (token.encode(), b"x" * padding)
        return f"{header}.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}."

    assert context_token(context(1000)) == token
    assert len(context(MAX_CONTEXT)) > MAX_CONTEXT
    assert context_token(context(MAX_CONTEXT)) is None


@given(st.text())
def test_reading_a_context_never_raises(text: str) -> None:
    assert context_token(text) is None


def test_users_are_new_each_time_and_of_the_recorded_form() -> None:
    mint = IdMint()
    user = mint.user(RESOURCE)
    assert re.fullmatch(rf"8:acs:{RESOURCE}_{GUID.pattern}", user)
    assert user != mint.user(RESOURCE)


def test_a_name_is_always_the_same_user_of_a_resource() -> None:
    assert stable_user(RESOURCE, "alice") == stable_user(RESOURCE, "alice")
    assert stable_user(RESOURCE, "alice") != stable_user(RESOURCE, "bob")
    assert stable_user(RESOURCE, "alice") != stable_user(str(uuid.uuid4()), "alice")
    assert re.fullmatch(rf"8:acs:{RESOURCE}_[0-9a-f-]{{36}}", stable_user(RESOURCE, "alice"))


@pytest.mark.parametrize(
    ("text", "raw_id"),
    [
        ("+15550100", "4:+15550100"),
        ("4:+15550100", "4:+15550100"),
        ("4:anonymous", "4:anonymous"),
        ("8:acs:a_b", "8:acs:a_b"),
        ("28:orgid:x", "28:orgid:x"),
        ("8:" + "x" * (MAX_RAW_ID - 3), "8:" + "x" * (MAX_RAW_ID - 3)),
        ("alice", stable_user(RESOURCE, "alice")),
        ("front.desk_1-b", stable_user(RESOURCE, "front.desk_1-b")),
        ("a" * 64, stable_user(RESOURCE, "a" * 64)),
    ],
)
def test_addresses_as_people_write_them(text: str, raw_id: str) -> None:
    assert parse_address(text, RESOURCE) == raw_id


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "+", "+0123", "+1555x", f"+{'1' * 16}", "+15550100\n"),
        *("9:x", "8:", "8:a b", "8:é", f"8:{'x' * MAX_RAW_ID}"),
        *("a b", "é", "a" * 65, "alice\n"),
    ],
)
def test_what_is_no_address_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no address: give an E\.164 number"):
        parse_address(text, RESOURCE)
