"""Results of scenarios as JUnit XML, which CI services show."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from xml.etree import ElementTree as ET

from offhook.testing.scenario_run import Result

# What XML 1.0 cannot have, not even escaped.
_NO_XML = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


def junit(results: Iterable[Result]) -> bytes:
    """Return the document: a suite for each file, a case for each scenario with its time and, when it failed, why.

    `system-out` has the timeline and the paths of the artefacts, in the form that Jenkins and GitLab read
    (`[[ATTACHMENT|path]]`). Characters that XML cannot have are replaced.
    """
    suites = ET.Element("testsuites", name="offhook")
    for file, group in groupby(results, key=lambda result: result.file):
        cases = list(group)
        failures = sum(not case.passed for case in cases)
        seconds = sum(case.seconds for case in cases)
        counts = {"tests": str(len(cases)), "failures": str(failures), "errors": "0", "time": f"{seconds:.3f}"}
        suite = ET.SubElement(suites, "testsuite", {"name": _clean(str(file)), **counts})
        suite.extend(_case(case) for case in cases)
    ET.indent(suites)
    document: bytes = ET.tostring(suites, "utf-8", xml_declaration=True)
    return document


def _case(result: Result) -> ET.Element:
    named = {"classname": result.file.stem, "name": result.name, "time": f"{result.seconds:.3f}"}
    case = ET.Element("testcase", {key: _clean(text) for key, text in named.items()})
    if not result.passed:
        failure = ET.SubElement(case, "failure", message=_clean(result.failure))
        step = "" if result.step is None else f"step {result.step}: "
        failure.text = _clean(f"{step}{result.failure}\n{result.trace}")
    attachments = "".join(f"[[ATTACHMENT|{path}]]\n" for path in result.artefacts)
    ET.SubElement(case, "system-out").text = _clean(f"{result.timeline}{attachments}")
    return case


def _clean(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
