"""Writes docs/reference/ from the docstrings: `python tests/docs/make_reference.py`. Nothing of Offhook is imported.

A page has the public names of its modules: of a package with `__all__` those, else the functions and classes that are
defined there and the variables that have a docstring. Of a class it has the constructor, public methods, and those
attributes that are annotated or have a comment on their line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
WIDTH = 100  # of a signature on one line

PAGES = {
    "bot.md": ("offhook.bot", "offhook.bot.adapters", "offhook.bot.memory", "offhook.bot.apps", "offhook.bot.auth"),
    "testing.md": tuple(
        f"offhook.testing.{name}"
        for name in ("harness", "call", "inprocess", "weather", "hearing", "speech", "report", "caller", "clock")
    ),
    "streaming.md": ("offhook.wire.streaming",),
}
INWARD = {
    "Exchange",
    "InProcess",
}  # public within Offhook, for nobody to use from outside
_HEAD = "<!-- Written by tests/docs/make_reference.py from the docstrings: change those, then `make docs`. -->\n"

Member = griffe.Class | griffe.Function | griffe.Attribute


@cache
def package() -> griffe.Module:
    loaded = griffe.load("offhook", search_paths=[ROOT / "src"], allow_inspection=False, resolve_aliases=True)
    assert isinstance(loaded, griffe.Module)
    return loaded


def public(module: str) -> dict[str, Member]:
    """The public names of a module and what they stand for, wherever that is defined."""
    found: griffe.Module = package()[module.partition(".")[2]]
    if found.exports is not None:
        return {str(name): _target(found.members[str(name)]) for name in found.exports}
    own = {
        name: member
        for name, member in found.members.items()
        if not (member.is_alias or name.startswith("_") or name in INWARD)
    }
    return {
        name: _target(member)
        for name, member in own.items()
        if member.is_class or member.is_function or member.has_docstring
    }


def pages() -> dict[str, str]:
    """The text of every page, by its file name."""
    return {name: _page(name, modules) for name, modules in PAGES.items()}


def undocumented() -> Iterator[str]:
    """Public functions and classes that have no docstring."""
    for module in {module for modules in PAGES.values() for module in modules}:
        for name, member in public(module).items():
            if not member.has_docstring and not member.is_attribute:
                yield f"{module}.{name}"


def _target(member: griffe.Object | griffe.Alias) -> Member:
    target = member.final_target if isinstance(member, griffe.Alias) else member
    assert isinstance(target, griffe.Class | griffe.Function | griffe.Attribute)
    return target


def _page(page: str, modules: tuple[str, ...]) -> str:
    parts = [_HEAD]
    for number, module in enumerate(modules):
        parts.append(f"{'#' if number == 0 else '##'} {module}\n")
        parts.append(_text(package()[module.partition(".")[2]]))
        for name, member in public(module).items():
            where = _page_of(member)
            if where not in (None, page):
                parts.append(f"### {name}\n\nSee [{where.removesuffix('.md')}]({where}#{name.lower()}).\n")
            else:
                parts.append(_entry(name, member))
    return "\n".join(part for part in parts if part)


def _page_of(member: Member) -> str | None:
    """The page of the module that defines it, if it is on one."""
    defined = member.module.path
    return next(
        (page for page, modules in PAGES.items() if defined in modules and member.name in public(defined)), None
    )


def _entry(name: str, member: Member) -> str:
    parts = [f"### {name}\n", _code(_signature(name, member)), _text(member)]
    if isinstance(member, griffe.Class):
        attributes = {name: text for name, text in _attributes(member) if not name.startswith("_")}
        parts.append("".join(f"* `{name}`{text}\n" for name, text in attributes.items()))
        for method_name, method in _methods(member).items():
            parts += [f"#### {name}.{method_name}\n", _code(_signature(method_name, method)), _text(method)]
    return "\n".join(part for part in parts if part)


def _methods(member: griffe.Class) -> dict[str, griffe.Function]:
    return {
        name: each
        for name, each in member.members.items()
        if isinstance(each, griffe.Function) and not name.startswith("_")
    }


def _attributes(member: griffe.Class) -> Iterator[tuple[str, str]]:
    """Fields, properties and what the constructor sets: each with its type, and what is said about it."""
    for name, attribute in member.members.items():
        if not isinstance(attribute, griffe.Attribute):
            continue
        about = attribute.docstring.value if attribute.docstring else _comment(attribute)
        if attribute.annotation is not None or about:
            kind = "" if attribute.annotation is None else f": `{attribute.annotation}`"
            yield name, kind + (f": {' '.join(about.split())}" if about else "")


def _comment(attribute: griffe.Attribute) -> str:
    assert isinstance(attribute.filepath, Path)
    assert attribute.lineno is not None
    line = attribute.filepath.read_text("utf-8").splitlines()[attribute.lineno - 1]
    comment = re.search(r"  # (.+)$", line)
    return comment[1] if comment else ""


def _signature(name: str, member: Member) -> str:
    if isinstance(member, griffe.Attribute):
        return f"{name} = {member.value}"
    if isinstance(member, griffe.Class):
        bases = f"({', '.join(map(str, member.bases))})" if member.bases else ""
        if "__init__" not in member.members and not member.parameters:
            return f"class {name}{bases}"
        return "class " + _call(name, [each for each in member.parameters if each.name != "self"])
    start = "async def " if "async" in member.labels else "def "
    returns = f" -> {member.returns}" if member.returns is not None else ""
    return start + _call(name, [each for each in member.parameters if each.name not in ("self", "cls")], returns)


def _call(name: str, parameters: list[griffe.Parameter], returns: str = "") -> str:
    written: list[str] = []
    for parameter in parameters:
        if parameter.kind is griffe.ParameterKind.keyword_only and "*" not in "".join(each[:1] for each in written):
            written.append("*")
        star = "*" if parameter.kind is griffe.ParameterKind.var_positional else ""
        kind = f": {parameter.annotation}" if parameter.annotation is not None else ""
        default = "" if parameter.default is None or star else f" = {parameter.default}"
        written.append(f"{star}{parameter.name}{kind}{default}")
    line = f"{name}({', '.join(written)}){returns}"
    if len(line) <= WIDTH:
        return line
    return f"{name}(\n" + "".join(f"    {each},\n" for each in written) + f"){returns}"


def _code(text: str) -> str:
    return f"```py\n{text}\n```\n"


def _text(member: griffe.Object) -> str:
    """A docstring; its indented code is Markdown's, too. A constructor's says what the class's does not."""
    texts = [member.docstring.value] if member.docstring else []
    if isinstance(member, griffe.Class) and "__init__" in member.members:
        docstring = member.members["__init__"].docstring
        texts += [docstring.value] if docstring else []
    return "\n\n".join(texts) + "\n" if texts else ""


if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, "utf-8")
