"""SSML: who says what and when, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.speech.ssml import LARGEST, PAUSE_S, PAUSES_S, Pause, Said, parse
from offhook.speech.values import FASTEST, SLOWEST, Fault, SpeechError, Voice


def test_who_says_what_and_when() -> None:
    document = """<?xml version="1.0"?>
    <speak version="1.0" xmlns="http://www.w3.org/2001/10/synthesis" xml:lang="en-US">
      Hello. <break time="1.5s"/>
      <voice name="en-GB-RyanNeural" xml:lang="en-GB"><p><s>One.</s><s>Two.</s></p></voice>
      <voice gender="male">Three.</voice>
      Four.
    </speak>"""
    british = Voice("en-GB", "", "en-GB-RyanNeural")
    assert parse(document) == [
        Said("Hello.", Voice("en-US")),
        Pause(1.5),
        Said("One.", british),
        Pause(0.25),
        Said("Two.", british),
        Pause(0.25),
        Pause(0.5),
        Said("Three.", Voice("en-US", "male")),
        Said("Four.", Voice("en-US")),
    ]


@pytest.mark.parametrize(
    ("inner", "text"),
    [
        ("one <emphasis level='strong'>two</emphasis> three", "one two three"),
        ("un<emphasis>believ</emphasis>able", "unbelievable"),
        ("<say-as interpret-as='date'>1 May</say-as>", "1 May"),
        ("the <sub alias='World Wide Web Consortium'>W<b>3</b>C</sub> says", "the World Wide Web Consortium says"),
        ("<sub>W3C</sub>", "W3C"),
        ("<mstts:express-as style='sad'>oh</mstts:express-as>", "oh"),
        ("<metadata>by <b>me</b></metadata>yes<audio src='x'><desc>a bell</desc></audio>", "yes"),
        ("<metadata><break time='1s'/></metadata>yes", "yes"),
        ("fish &amp; chips &lt;3 &#233;t&#xE9;", "fish & chips <3 été"),
        ("<![CDATA[<b>]]>", "<b>"),
        ("<!-- unsaid -->said<?unsaid?>", "said"),
    ],
)
def test_other_elements_count_as_their_text(inner: str, text: str) -> None:
    assert parse(f"<speak>{inner}</speak>") == [Said(text, Voice())]


@pytest.mark.parametrize(
    ("element", "seconds"),
    [
        ("<break/>", 0.75),
        ("<break strength='weak'/>", 0.5),
        ("<break strength='x-strong'/>", 1.25),
        ("<break strength='loud'/>", 0.75),
        ("<break time='200ms'/>", 0.2),
        ("<break time=' 2s '/>", 2.0),
        ("<break time='0.25s' strength='strong'/>", 0.25),
        ("<break time='nonsense'/>", 0.75),
        ("<break time='999999s'/>", PAUSE_S),
    ],
)
def test_a_break_has_its_length(element: str, seconds: float) -> None:
    assert parse(f"<speak>a{element}b</speak>") == [Said("a", Voice()), Pause(seconds), Said("b", Voice())]


@pytest.mark.parametrize("element", ["<break strength='none'/>", "<break time='0s'/>"])
def test_a_break_of_no_length_only_parts(element: str) -> None:
    assert parse(f"<speak>a{element}b</speak>") == [Said("a", Voice()), Said("b", Voice())]


def test_all_breaks_together_are_bounded() -> None:
    parts = parse("<speak>a" + "<break time='9s'/>" * 100 + "</speak>")
    assert sum(part.seconds for part in parts if isinstance(part, Pause)) == PAUSES_S


@pytest.mark.parametrize(
    ("rate", "speed"),
    [
        ("+20%", 1.2),
        ("20%", 1.2),
        ("-25.5%", 0.745),
        ("1.5", 1.5),
        ("slow", 0.64),
        ("medium", 1.0),
        ("x-fast", 2.0),
        ("+9999%", FASTEST),
        ("-100%", SLOWEST),
        ("0", SLOWEST),
        ("quickly", 1.0),
        ("nan", 1.0),
        ("", 1.0),
    ],
)
def test_prosody_changes_the_speed(rate: str, speed: float) -> None:
    [part] = parse(f"<speak><prosody rate='{rate}' pitch='high'>x</prosody></speak>")
    assert isinstance(part, Said)
    assert part.voice.speed == pytest.approx(speed)


def test_prosody_within_prosody_multiplies_and_ends() -> None:
    document = "<speak><prosody rate='1.5'>a<prosody rate='-20%'>b</prosody>c</prosody>d</speak>"
    said = [(part.text, part.voice.speed) for part in parse(document) if isinstance(part, Said)]
    assert said == [("a", 1.5), ("b", pytest.approx(1.2)), ("c", 1.5), ("d", 1.0)]


def test_marks_that_are_left_over_are_not_said() -> None:
    said = parse("<speak>(<prosody rate='fast'>Go!</prosody>). <break time='1s'/> ...</speak>")
    assert said == [Said("Go!", Voice(speed=1.55)), Pause(1.0)]


@pytest.mark.parametrize("declared", ["utf-16", "UTF-8", "iso-8859-1"])
def test_a_text_has_no_encoding_any_more_whatever_it_declares(declared: str) -> None:
    document = f"\ufeff \n<?xml version='1.0' encoding='{declared}'?><speak>Grüße, 世界</speak>"
    assert parse(document) == [Said("Grüße, 世界", Voice())]


@pytest.mark.parametrize(
    "document",
    [
        "<!DOCTYPE speak><speak>x</speak>",
        "<!DOCTYPE speak [<!ENTITY a 'aaaaaaaa'><!ENTITY b '&a;&a;'>]><speak>&b;</speak>",
        "<!DOCTYPE speak [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><speak>&a;</speak>",
        "<!DOCTYPE speak SYSTEM 'http://169.254.169.254/x.dtd'><speak>x</speak>",
    ],
)
def test_a_doctype_and_with_it_every_entity_is_refused(document: str) -> None:
    with pytest.raises(SpeechError, match="must not have a DOCTYPE"):
        parse(document)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("hello", "no XML"),
        ("", "no XML"),
        ("<speak>x", "no XML"),
        ("<speak>&a;</speak>", "no XML"),
        ("<speak>a</speak><speak>b</speak>", "no XML"),
        ("<speak>\ud800</speak>", "no XML"),
        ("<voice>x</voice>", "begins with <speak>, not with <voice>"),
        ("<speak>" + "x" * LARGEST + "</speak>", "more than 65536 characters"),
    ],
)
def test_what_is_no_ssml_is_said(document: str, problem: str) -> None:
    with pytest.raises(SpeechError, match=problem) as caught:
        parse(document)
    assert caught.value.fault is Fault.FAILED


@pytest.mark.parametrize(
    "inner", ["", "  \n ", "?!", "<break time='1s'/>", "<p/>", "<metadata>x</metadata>", "<sub alias=''>x</sub>"]
)
def test_nothing_to_say_is_said(inner: str) -> None:
    with pytest.raises(SpeechError) as caught:
        parse(f"<speak>{inner}</speak>")
    assert caught.value.fault is Fault.EMPTY


def test_elements_may_lie_within_each_other_as_deeply_as_the_size_allows() -> None:
    depth = (LARGEST - 20) // 7
    assert parse("<speak>" + "<b>" * depth + "x" + "</b>" * depth + "</speak>") == [Said("x", Voice())]


TAGS = ["<speak>", "</speak>", "<p>", "</p>", "<sub alias='a'>", "</sub>", "<break time='3s'/>", "<voice name='n'>"]
MORE = ["</voice>", "<prosody rate='fast'>", "</prosody>", "&amp;", "&x;", "<!DOCTYPE a>", "<metadata>", "</metadata>"]
PIECES = st.sampled_from([*TAGS, *MORE])


@given(st.lists(PIECES | st.text(max_size=8), max_size=30).map("".join), st.booleans())
def test_whatever_comes_it_is_read_or_refused(inner: str, whole: bool) -> None:
    try:
        parts = parse(f"<speak>{inner}</speak>" if whole else inner)
    except SpeechError:
        return
    assert all(any(map(str.isalnum, part.text)) for part in parts if isinstance(part, Said))
    assert sum(part.seconds for part in parts if isinstance(part, Pause)) <= PAUSES_S
