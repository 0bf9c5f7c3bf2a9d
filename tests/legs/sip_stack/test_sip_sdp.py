"""Session descriptions, offers and answers: hold in its dialects, codecs, telephone events, SRTP, and any text."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.legs.sip import sdp
from offhook.legs.sip.negotiation import Agreed, MediaPolicy, Negotiation, NotAcceptable
from offhook.legs.sip.sdp import DIRECTIONS, SdpError

HEAD = "v=0\r\no=- 7 3 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
EVERY = MediaPolicy(("PCMU", "PCMA", "G722", "opus"))
OURS = "203.0.113.1"
KEY = "inline:" + "A" * 40


def offer(*lines: str, media: str = "audio 4000 RTP/AVP 0 8 101", head: str = HEAD) -> str:
    return head + f"m={media}\r\n" + "".join(f"{line}\r\n" for line in ("a=rtpmap:101 telephone-event/8000", *lines))


def negotiation(policy: MediaPolicy = EVERY) -> Negotiation:
    return Negotiation(policy, OURS)


def answered(text: str, policy: MediaPolicy = EVERY, hold: bool = False) -> tuple[sdp.Description, Agreed]:
    said, agreed = negotiation(policy).answer(text, 7000, hold)
    return sdp.parse(said), agreed


# ------------------------------------------------------------------------------------------------ reading


def test_a_description_is_read() -> None:
    text = offer(
        "a=fmtp:101 0-15",
        "a=ptime:30",
        "a=maxptime:60",
        "a=rtcp-mux",
        "a=sendonly",
        f"a=crypto:1 {sdp.SUITE} {KEY}|2^20",
    )
    description = sdp.parse(text)
    (media,) = description.media
    assert (description.id, description.version, description.host) == (7, 3, "192.0.2.1")
    assert [(one.payload_type, one.name) for one in media.formats] == [
        (0, "PCMU"),
        (8, "PCMA"),
        (101, "telephone-event"),
    ]
    assert (media.ptime, media.maxptime, media.rtcp_mux, media.direction) == (30, 60, True, "sendonly")
    assert media.crypto == (sdp.Crypto(1, sdp.SUITE, f"{KEY}|2^20"),)
    assert media.formats[2].parameters == "0-15"


def test_what_the_session_says_holds_for_each_media_line_that_does_not() -> None:
    head = HEAD + "a=inactive\r\n"
    text = offer(head=head) + "m=audio 5 RTP/AVP 0\r\nc=IN IP6 2001:db8::1\r\na=sendrecv\r\n"
    first, second = sdp.parse(text).media
    assert (first.direction, first.host) == ("inactive", "192.0.2.1")
    assert (second.direction, second.host) == ("sendrecv", "2001:db8::1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v=1",
        "v=0\r\n",
        HEAD.replace("7 3", "x 3"),
        HEAD + "m=audio\r\n",
        HEAD + "m=audio 70000 RTP/AVP 0\r\n",
        HEAD.replace("c=IN IP4 192.0.2.1", "c=IN"),
        HEAD + "m=audio 1 RTP/AVP 0\r\n" * 17,
        HEAD + "m=audio 1 RTP/AVP" + " 0" * 65 + "\r\n",
    ],
)
def test_no_description(text: str) -> None:
    with pytest.raises(SdpError):
        sdp.parse(text)
    with pytest.raises(NotAcceptable) as raised:
        negotiation().consider(text)
    assert raised.value.code == 400


@given(st.text(max_size=300))
def test_any_text_is_a_description_or_none(text: str) -> None:
    for each in (text, HEAD + text, offer(text)):
        with contextlib.suppress(NotAcceptable):
            negotiation().answer(each, 7000)


# ------------------------------------------------------------------------------------------------ answering


@pytest.mark.parametrize("theirs", DIRECTIONS)
@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("zero", [False, True])
def test_the_direction_is_what_both_want(theirs: str, hold: bool, zero: bool) -> None:
    """RFC 3264 section 6.1, and the old way to hold: an address of 0.0.0.0, to which nothing can be sent."""
    head = HEAD.replace("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0") if zero else HEAD
    description, agreed = answered(offer(f"a={theirs}", head=head), hold=hold)
    they_send, they_receive = theirs in ("sendrecv", "sendonly"), theirs in ("sendrecv", "recvonly") and not zero
    assert (agreed.sends, agreed.receives) == (they_receive, they_send and not hold)
    said = {(True, True): "sendrecv", (True, False): "sendonly", (False, True): "recvonly", (False, False): "inactive"}
    assert description.media[0].direction == said[(agreed.sends, agreed.receives)]
    assert agreed.remote == (None if zero else ("192.0.2.1", 4000))
    assert agreed.held is not they_receive


def test_the_direction_is_worked_out_anew_for_each_offer() -> None:
    ours = negotiation()
    seen = []
    for direction in ("sendrecv", "sendonly", "sendonly", "sendrecv", "inactive", "sendrecv"):
        said, _ = ours.answer(offer(f"a={direction}"), 7000)
        description = sdp.parse(said)
        seen.append((description.version, description.media[0].direction))
    assert seen == [
        (1, "sendrecv"),
        (2, "recvonly"),
        (2, "recvonly"),
        (3, "sendrecv"),
        (4, "inactive"),
        (5, "sendrecv"),
    ]


@pytest.mark.parametrize(
    ("media", "lines", "codec", "type", "dtmf"),
    [
        ("audio 4 RTP/AVP 8 0 101", (), "PCMU", 0, 101),
        ("audio 4 RTP/AVP 8 101", (), "PCMA", 8, 101),
        ("audio 4 RTP/AVP 9 3", (), "G722", 9, None),
        (
            "audio 4 RTP/AVP 97 98 101",
            ("a=rtpmap:97 OPUS/48000/2", "a=rtpmap:98 telephone-event/48000"),
            "opus",
            97,
            98,
        ),
        ("audio 4 RTP/AVP 97 101", ("a=rtpmap:97 opus/48000/2",), "opus", 97, 101),  # 8 kHz events are borne
        ("audio 4 RTP/AVPF 96 101", ("a=rtpmap:96 pcmu/8000",), "PCMU", 96, 101),
        ("audio 4 RTP/AVP 0 98 101", ("a=rtpmap:98 telephone-event/48000",), "PCMU", 0, 101),
    ],
)
def test_the_codec_is_ours_of_theirs_and_has_their_payload_type(
    media: str, lines: tuple[str, ...], codec: str, type: int, dtmf: int | None
) -> None:
    description, agreed = answered(offer(*lines, media=media))
    assert (agreed.codec, agreed.payload_type, agreed.receive_type, agreed.dtmf_type) == (codec, type, type, dtmf)
    assert [one.payload_type for one in description.media[0].formats] == [type] + ([dtmf] if dtmf else [])


def test_a_codec_that_is_spoken_is_kept_as_long_as_it_is_offered() -> None:
    ours = negotiation()
    _, first = ours.answer(offer(media="audio 4 RTP/AVP 8 101"), 7000)
    _, second = ours.answer(offer(media="audio 4 RTP/AVP 0 8 101"), 7000)
    _, third = ours.answer(offer(media="audio 4 RTP/AVP 0 101"), 7000)
    assert [first.codec, second.codec, third.codec] == ["PCMA", "PCMA", "PCMU"]


def test_of_several_media_lines_one_is_taken_and_all_are_answered() -> None:
    text = (
        offer(media="audio 0 RTP/AVP 0")
        + "m=video 6000 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
        + "m=audio 6002 RTP/AVP 8\r\nm=audio 6004 RTP/AVP 0\r\nm=image 9 udptl t38\r\n"
    )
    description, agreed = answered(text)
    assert agreed.remote == ("192.0.2.1", 6002)
    assert [(media.kind, media.port) for media in description.media] == [
        ("audio", 0),
        ("video", 0),
        ("audio", 7000),
        ("audio", 0),
        ("image", 0),
    ]


@pytest.mark.parametrize(
    "text",
    [
        offer(media="audio 0 RTP/AVP 0"),
        offer(media="audio 4 RTP/AVP 3"),
        offer(media="video 4 RTP/AVP 0"),
        HEAD + "m=x 1 Y 2\r\n",
        offer(media="audio 4 UDP/TLS/RTP/SAVPF 0"),
        HEAD.rstrip(),
    ],
)
def test_nothing_to_agree_on(text: str) -> None:
    with pytest.raises(NotAcceptable) as raised:
        negotiation().answer(text, 7000)
    assert raised.value.code == 488


def test_rtcp_and_packet_times() -> None:
    assert answered(offer("a=rtcp-mux"))[1].rtcp_mux
    assert not answered(offer())[1].rtcp_mux
    assert not answered(offer("a=rtcp-mux"), MediaPolicy(rtcp_mux=False))[1].rtcp_mux


@pytest.mark.parametrize(
    ("lines", "ms"),
    [
        ((), 20),
        (("a=ptime:10",), 10),
        (("a=ptime:30",), 30),
        (("a=ptime:60",), 60),
        (("a=maxptime:10",), 10),
        (("a=maxptime:240",), 20),
        (("a=ptime:60", "a=maxptime:40"), 40),
        (("a=ptime:35",), 30),  # in whole 10 ms
        (("a=ptime:5",), 10),
        (("a=ptime:200",), 60),
        (("a=ptime:x",), 20),
    ],
)
def test_packets_are_as_long_as_the_other_side_asks(lines: tuple[str, ...], ms: int) -> None:
    description, agreed = answered(offer(*lines))
    assert agreed.ptime_ms == description.media[0].ptime == ms
    ours = negotiation()
    ours.offer(7000)
    assert ours.accept(offer(*lines)).ptime_ms == ms


def test_comfort_noise_is_taken_from_who_offers_it_and_never_asked_for() -> None:
    ours = negotiation()
    said, agreed = ours.answer(offer(media="audio 4 RTP/AVP 13 0 101"), 7000)
    assert agreed.codec == "PCMU"
    assert [one.payload_type for one in sdp.parse(said).media[0].formats] == [0, 13, 101]
    assert ours.answer(offer(media="audio 4 RTP/AVP 13 8 101"), 7000)[1].codec == "PCMA"
    said, _ = negotiation().answer(
        offer("a=rtpmap:97 opus/48000/2", "a=rtpmap:13 CN/8000", media="audio 4 RTP/AVP 97 13"), 7000
    )
    assert [one.payload_type for one in sdp.parse(said).media[0].formats] == [97]  # Opus does it its own way.
    ours = negotiation()
    assert "CN" not in ours.offer(7000)
    assert ours.accept(offer(media="audio 4 RTP/AVP 13 0")).codec == "PCMU"
    with pytest.raises(NotAcceptable):
        negotiation().answer(offer(media="audio 4 RTP/AVP 13"), 7000)


def test_each_side_says_its_own_parameters() -> None:
    lines = ("a=rtpmap:97 opus/48000/2", "a=fmtp:97 maxaveragebitrate=20000;stereo=1")
    description, agreed = answered(offer(*lines, media="audio 4 RTP/AVP 97"))
    assert agreed.parameters == "maxaveragebitrate=20000;stereo=1"
    (format,) = description.media[0].formats
    assert (format.rate, format.channels, format.parameters) == (48_000, 2, "useinbandfec=1")
    ours = negotiation()
    ours.offer(7000)
    assert ours.accept(offer(*lines, media="audio 4 RTP/AVP 97")).parameters == agreed.parameters


def test_telephone_events_have_the_clock_that_the_other_side_gives_them() -> None:
    lines = ("a=rtpmap:97 opus/48000/2", "a=rtpmap:98 telephone-event/48000")
    assert answered(offer(*lines, media="audio 4 RTP/AVP 97 98 101"))[1].dtmf_rate == 48_000
    assert answered(offer(*lines, media="audio 4 RTP/AVP 97 101"))[1].dtmf_rate == 8000
    assert answered(offer())[1].dtmf_rate == 8000
    ours = negotiation()
    ours.offer(7000)
    agreed = ours.accept(offer(*lines, media="audio 4 RTP/AVP 97 101"))
    assert (agreed.dtmf_type, agreed.dtmf_rate, agreed.receive_dtmf_type) == (101, 8000, 101)


# ------------------------------------------------------------------------------------------------ SRTP

SECURE = offer(f"a=crypto:3 AES_256_CM_HMAC_SHA1_80 {KEY}", f"a=crypto:2 {sdp.SUITE} {KEY}", media="audio 4 RTP/SAVP 0")


def test_srtp_is_taken_where_it_may_be() -> None:
    description, agreed = answered(SECURE, MediaPolicy(srtp="allowed"))
    (media,) = description.media
    (crypto,) = media.crypto
    assert (media.profile, crypto.tag, crypto.suite, crypto.key) == ("RTP/SAVP", 2, sdp.SUITE, agreed.send_key)
    assert agreed.receive_key == KEY != agreed.send_key


@pytest.mark.parametrize(
    ("text", "srtp"),
    [
        (SECURE, "off"),
        (offer(), "required"),
        (SECURE.replace(sdp.SUITE, "F8_128_HMAC_SHA1_80"), "allowed"),
        (SECURE.replace(f"{sdp.SUITE} {KEY}", f"{sdp.SUITE} {KEY}|1:4"), "allowed"),
        (SECURE.replace(f"{sdp.SUITE} {KEY}", f"{sdp.SUITE} {KEY} UNENCRYPTED_SRTP"), "allowed"),
    ],
)
def test_srtp_that_is_refused(text: str, srtp: str) -> None:
    with pytest.raises(NotAcceptable):
        answered(text, MediaPolicy(srtp=srtp))  # type: ignore[arg-type]


BEST_EFFORT = offer(f"a=crypto:7 {sdp.SUITE} {KEY}")


@pytest.mark.parametrize(("srtp", "encrypted"), [("off", False), ("allowed", True), ("required", True)])
def test_keys_are_taken_without_the_profile_of_srtp_too(srtp: Any, encrypted: bool) -> None:
    description, agreed = answered(BEST_EFFORT, MediaPolicy(srtp=srtp))
    (media,) = description.media
    assert media.profile == "RTP/AVP"
    assert [one.tag for one in media.crypto] == [7] * encrypted
    assert agreed.receive_key == KEY * encrypted


def test_who_answers_decides_whether_audio_is_encrypted() -> None:
    ours = negotiation(MediaPolicy(srtp="allowed"))
    first = sdp.parse(ours.offer(7000)).media[0]
    (crypto,) = first.crypto
    assert (first.profile, crypto.suite) == ("RTP/AVP", sdp.SUITE)
    assert ours.accept(offer()).send_key == ""
    forked = ours.accept(BEST_EFFORT)
    assert (forked.send_key, forked.receive_key) == (crypto.key, KEY)
    assert ours.accept(BEST_EFFORT.replace("RTP/AVP", "RTP/SAVP")) == forked
    again = sdp.parse(ours.offer(7000)).media[0]
    assert (again.profile, again.crypto) == ("RTP/AVP", (crypto,))
    ours.accept(offer())
    assert not sdp.parse(ours.offer(7000)).media[0].crypto  # It stays as it was agreed on.
    assert ours.accept(BEST_EFFORT).send_key == ""  # An answer cannot add what was not offered.
    with pytest.raises(NotAcceptable):
        ours.accept(BEST_EFFORT.replace("RTP/AVP", "RTP/SAVP"))


def test_the_profile_of_a_call_stays() -> None:
    ours = negotiation(MediaPolicy(srtp="allowed"))
    ours.answer(SECURE, 7000)
    again = sdp.parse(ours.offer(7000)).media[0]
    assert (again.profile, len(again.crypto)) == ("RTP/SAVP", 1)
    ours.answer(offer(), 7000)
    again = sdp.parse(ours.offer(7000)).media[0]
    assert (again.profile, again.crypto) == ("RTP/AVP", ())


# ------------------------------------------------------------------------------------------------ both sides

policies = st.builds(
    MediaPolicy,
    st.lists(st.sampled_from(EVERY.codecs), min_size=1, unique=True).map(tuple),
    st.sampled_from([10, 20, 30]),
    st.booleans(),
    st.sampled_from(["off", "allowed", "required"]),
)


@given(policies, policies, st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=6))
def test_two_sides_agree_or_neither_does(
    one: MediaPolicy, other: MediaPolicy, rounds: list[tuple[bool, bool, bool]]
) -> None:
    """Whoever offers, and whoever holds: what one sends, the other one takes."""
    sides = [negotiation(one), Negotiation(other, "192.0.2.9")]
    common = set(one.codecs) & set(other.codecs)
    secure = {one.srtp, other.srtp}
    possible = bool(common) and secure != {"off", "required"}
    for number, (turned, holds, held) in enumerate(rounds):
        offering, answering = sides[::-1] if turned and number else sides
        if not possible:
            with pytest.raises(NotAcceptable):
                answering.answer(offering.offer(4000), 5000)
            return
        text = offering.offer(4000, holds)
        said, theirs = answering.answer(text, 5000, held)
        ours = offering.accept(said)
        assert ours.codec == theirs.codec
        assert ours.codec in common
        assert (ours.payload_type, ours.receive_type) == (theirs.receive_type, theirs.payload_type)
        assert (ours.dtmf_type, theirs.dtmf_type) == (ours.receive_dtmf_type, ours.dtmf_type)
        assert ours.dtmf_type is not None
        assert (ours.sends, ours.receives) == (theirs.receives, theirs.sends) == (not held, not holds)
        assert (ours.send_key, ours.receive_key) == (theirs.receive_key, theirs.send_key)
        assert bool(ours.send_key) == ("off" not in secure)
        assert ours.rtcp_mux == theirs.rtcp_mux == (one.rtcp_mux and other.rtcp_mux)
        assert {ours.remote, theirs.remote} == {
            (sides[1]._host, 5000 if answering is sides[1] else 4000),
            (sides[0]._host, 5000 if answering is sides[0] else 4000),
        }


def test_an_answer_that_answers_something_else() -> None:
    ours = negotiation()
    with pytest.raises(NotAcceptable):
        ours.accept(offer())  # nothing was offered
    ours.offer(7000)
    for wrong in (
        offer() + "m=audio 4 RTP/AVP 0\r\n",
        offer(media="audio 0 RTP/AVP 0"),
        offer(media="audio 4 RTP/AVP 3"),
        SECURE,
        "x",
    ):
        with pytest.raises(NotAcceptable):
            ours.accept(wrong)


def test_an_answer_with_payload_types_of_its_own() -> None:
    ours = Negotiation(MediaPolicy(("opus",)), OURS)
    ours.offer(7000)
    agreed = ours.accept(
        offer("a=rtpmap:96 opus/48000/2", "a=rtpmap:97 telephone-event/48000", media="audio 4 RTP/AVP 96 97")
    )
    assert (agreed.payload_type, agreed.receive_type) == (96, 107)
    assert (agreed.dtmf_type, agreed.receive_dtmf_type) == (97, 102)


def test_a_later_offer_repeats_what_was_agreed_on() -> None:
    ours = negotiation()
    ours.answer(offer("a=rtpmap:111 opus/48000/2", media="audio 4 RTP/AVP 111 101") + "m=video 5 RTP/AVP 96\r\n", 7000)
    again = sdp.parse(ours.offer(7000, hold=True))
    audio, video = again.media
    assert [one.payload_type for one in audio.formats] == [111, 101]
    assert (audio.direction, video.port, again.version) == ("sendonly", 0, 2)


@pytest.mark.parametrize("codecs", [(), ("PCMU", "GSM"), ("pcmu",)])
def test_codecs_that_there_are_not(codecs: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="PCMU"):
        MediaPolicy(codecs)
