import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.wire.auth import AuthError, Verifier, decode_key, sign

KEY = base64.b64encode(bytes(range(64))).decode()
OTHER_KEY = base64.b64encode(b"another key").decode()
DATE = "Sun, 22 Nov 2026 06:37:38 GMT"
NOW = datetime(2026, 11, 22, 6, 37, 38, tzinfo=UTC).timestamp()
HOST = "localhost:7080"
TARGET = "/calling/callConnections?api-version=2025-06-15"
BODY = b'{"callbackUri":"https://app.example/"}'


def signed(
    target: str = TARGET,
    host: str = HOST,
    body: bytes = BODY,
    key: str = KEY,
    date: str = DATE,
    method: str = "POST",
    sent_host: str = HOST,
    **more: str,
) -> dict[str, str]:
    """Headers as the server sees them: signed for `target` and `host`, sent with `sent_host` as Host."""
    headers = {name.lower(): value for name, value in sign(method, target, host, body, key, date).items()}
    return headers | {"host": sent_host} | {name.replace("_", "-"): value for name, value in more.items()}


def verify(
    headers: Mapping[str, str],
    method: str = "POST",
    target: str = TARGET,
    body: bytes = BODY,
    now: float = NOW,
    verifier: Verifier | None = None,
) -> None:
    (verifier or Verifier([KEY])).verify(method, target, headers, body, now)


def test_the_signature_is_that_of_the_scheme() -> None:
    content_hash = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    text = f"POST\n{TARGET}\n{DATE};{HOST};{content_hash}"
    signature = base64.b64encode(hmac.new(bytes(range(64)), text.encode(), hashlib.sha256).digest()).decode()
    assert sign("POST", TARGET, HOST, BODY, KEY, DATE) == {
        "x-ms-date": DATE,
        "x-ms-content-sha256": content_hash,
        "Authorization": f"HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={signature}",
    }


def test_a_signed_request_is_accepted() -> None:
    verify(signed())
    verify(signed(body=b""), body=b"")


RAW_ID = "8:acs:2dee53b4_aaa"
PARTICIPANT = "/calling/callConnections/c1/participants/"


@pytest.mark.parametrize(
    ("headers", "target"),
    [
        # Python sync: the endpoint minus its scheme, verbatim
        (signed(), TARGET),
        (signed(host="localhost:7080/"), TARGET),
        (signed(host="acs.example:443", sent_host="acs.example"), TARGET),
        (signed(host="acs.example:80", sent_host="acs.example"), TARGET),
        # Python aio: signs the encoded raw id, sends it (partly) decoded
        (signed(f"{PARTICIPANT}8%3Aacs%3A2dee53b4_aaa?api-version=1"), f"{PARTICIPANT}{RAW_ID}?api-version=1"),
        (signed(f"{PARTICIPANT}4%3A%2B15550100?api-version=1"), f"{PARTICIPANT}4:%2B15550100?api-version=1"),
        # the Python policy's decode_url
        (signed(f"{PARTICIPANT}{RAW_ID}?api-version=1"), f"{PARTICIPANT}8%3Aacs%3A2dee53b4_aaa?api-version=1"),
        # JavaScript, .NET: the port is left out when it is the scheme's own
        (signed(host="acs.example", sent_host="acs.example"), TARGET),
        # Java: the port is dropped
        (signed(host="localhost"), TARGET),
        (signed(host="[::1]", sent_host="[::1]:7080"), TARGET),
        # custom endpoints: signed for the host of the connection string
        (signed(host="acs.example", x_ms_host="acs.example"), TARGET),
        (signed(host="acs.example", x_forwarded_host="acs.example"), TARGET),
    ],
)
def test_every_sdks_signature_is_accepted(headers: dict[str, str], target: str) -> None:
    verify(headers, target=target)


@pytest.mark.parametrize("name", ["offhook.example", "offhook.example:7443"])
@pytest.mark.parametrize("host", ["offhook.example", "offhook.example:7443", "offhook.example:7443/"])
def test_a_public_name_is_accepted_behind_a_proxy_that_rewrites_host(name: str, host: str) -> None:
    headers = signed(host=host, sent_host="10.0.0.7:7443")
    verify(headers, verifier=Verifier([KEY], names=[name]))
    with pytest.raises(AuthError, match=r"another host than '10\.0\.0\.7:7443'"):
        verify(headers)


def test_any_of_several_keys_is_accepted() -> None:
    verifier = Verifier([KEY, OTHER_KEY])
    verify(signed(), verifier=verifier)
    verify(signed(key=OTHER_KEY), verifier=verifier)
    with pytest.raises(AuthError, match="another access key"):
        verify(signed(key=base64.b64encode(b"third").decode()), verifier=verifier)


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_one_changed_byte_of_the_body_is_noticed(at: int, flip: int) -> None:
    changed = bytearray(BODY)
    changed[at] ^= flip
    with pytest.raises(AuthError, match="is not the SHA-256 of the body"):
        verify(signed(), body=bytes(changed))


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_a_changed_body_with_its_own_hash_is_noticed(at: int, flip: int) -> None:
    changed = bytearray(BODY)
    changed[at] ^= flip
    own_hash = base64.b64encode(hashlib.sha256(changed).digest()).decode()
    with pytest.raises(AuthError, match="signature does not match"):
        verify(signed() | {"x-ms-content-sha256": own_hash}, body=bytes(changed))


@given(st.integers(0, len(TARGET) - 1), st.characters(min_codepoint=33, max_codepoint=126))
def test_one_changed_character_of_path_or_query_is_noticed(at: int, character: str) -> None:
    changed = TARGET[:at] + character + TARGET[at + 1 :]
    if changed != TARGET:
        with pytest.raises(AuthError, match="signature does not match"):
            verify(signed(), target=changed)


@given(st.integers(0, 63), st.integers(1, 255))
def test_one_changed_byte_of_the_key_is_noticed(at: int, flip: int) -> None:
    changed = bytearray(range(64))
    changed[at] ^= flip
    with pytest.raises(AuthError, match="signature does not match"):
        verify(signed(key=base64.b64encode(changed).decode()))


def test_a_changed_date_method_or_host_is_noticed() -> None:
    with pytest.raises(AuthError, match="signature does not match"):
        verify(signed() | {"x-ms-date": "Sun, 22 Nov 2026 06:37:39 GMT"})
    with pytest.raises(AuthError, match="signature does not match"):
        verify(signed(), method="DELETE")
    with pytest.raises(AuthError, match="signature does not match"):
        verify(signed() | {"host": "other:7080"})


@pytest.mark.parametrize("late", [-900, 900])
def test_a_date_within_the_window_is_accepted(late: int) -> None:
    verify(signed(), now=NOW + late)


@pytest.mark.parametrize("late", [-901, 901, 1e9])
def test_a_date_outside_the_window_is_refused_with_a_hint(late: float) -> None:
    with pytest.raises(AuthError, match=r"off this server's clock .* compare the clocks"):
        verify(signed(), now=NOW + late)


@pytest.mark.parametrize("name", ["x-ms-date", "x-ms-content-sha256", "authorization"])
def test_a_missing_header_is_named(name: str) -> None:
    headers = signed()
    del headers[name]
    with pytest.raises(AuthError, match=f"the {name} header is missing"):
        verify(headers)


def test_a_missing_host_matches_nothing() -> None:
    headers = signed()
    del headers["host"]
    with pytest.raises(AuthError, match="signature does not match"):
        verify(headers)


@pytest.mark.parametrize("name", ["x-ms-date", "x-ms-content-sha256", "authorization"])
@pytest.mark.parametrize("separator", [", ", ",", "; "])
def test_a_header_that_is_there_twice_is_refused(name: str, separator: str) -> None:
    headers = signed()
    with pytest.raises(AuthError):
        verify(headers | {name: headers[name] + separator + headers[name]})


@pytest.mark.parametrize(
    "authorization",
    [
        "HMAC-SHA256",
        "HMAC-SHA256 Signature=x",
        "HMAC-SHA512 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=" + "A" * 43 + "=",
        "HMAC-SHA256 SignedHeaders=host&Signature=" + "A" * 43 + "=",
        "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=",
        "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=" + "A" * 44,
        "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=é",
    ],
)
def test_a_garbled_authorization_is_refused(authorization: str) -> None:
    with pytest.raises(AuthError, match="Authorization is not of the form"):
        verify(signed() | {"authorization": authorization})


def test_a_bearer_token_is_refused_with_a_hint() -> None:
    with pytest.raises(AuthError, match="use an access key"):
        verify(signed() | {"authorization": "Bearer abc.def.ghi"})


@pytest.mark.parametrize("date", ["now", "2026-11-22T06:37:38Z", "Sun, 99 Nov 2026 06:37:38 GMT", DATE + " " * 40])
def test_a_date_that_is_none_is_refused(date: str) -> None:
    with pytest.raises(AuthError, match="x-ms-date is not an HTTP date"):
        verify(signed() | {"x-ms-date": date})


@given(st.fixed_dictionaries({name: st.text() for name in ("x-ms-date", "x-ms-content-sha256", "authorization")}))
def test_garbage_raises_nothing_but_auth_errors(headers: dict[str, str]) -> None:
    with pytest.raises(AuthError):
        verify(headers)


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=30))
def test_a_garbled_date_or_host_or_path_raises_nothing_but_auth_errors(text: str) -> None:
    for headers, target in (
        (signed() | {"x-ms-date": text}, TARGET),
        (signed(host="elsewhere") | {"host": text, "x-ms-host": text}, TARGET),
        (signed(target="/elsewhere"), text),
    ):
        with pytest.raises(AuthError):
            verify(headers, target=target)


def test_no_reason_tells_the_key() -> None:
    for headers in (signed(key=OTHER_KEY), signed(date="x"), signed() | {"authorization": "x"}):
        with pytest.raises(AuthError) as caught:
            verify(headers)
        assert KEY not in str(caught.value)
        assert OTHER_KEY not in str(caught.value)


def test_keys_are_standard_base64() -> None:
    assert decode_key(f" {KEY}\n") == bytes(range(64))
    for text in ("not base64!", KEY[:-1], "a-_a", "é"):
        with pytest.raises(ValueError, match="must be standard base64") as caught:
            decode_key(text)
        assert text not in str(caught.value)
    with pytest.raises(ValueError, match="empty"):
        decode_key("")
    with pytest.raises(ValueError, match="no access key"):
        Verifier([])
