"""No GPL library comes with Offhook: neither by a dependency's own licence, nor as a shared object inside a wheel."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

EXTRAS = ("server", "speech", "demo", "auth", "vad")
GPL_OBJECTS = re.compile(r"lib(x264|x265|espeak-ng|readline|fftw3|postproc)\b")


def closure() -> dict[str, Distribution]:
    """Every installed distribution that `offhook` with all its extras needs."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(f"offhook[{','.join(EXTRAS)}]")]
    while waiting:
        requirement = waiting.pop()
        try:
            package = distribution(requirement.name)
        except PackageNotFoundError:
            continue  # another platform's
        extras = requirement.extras or {""}
        for text in package.requires or []:
            needed = Requirement(text)
            wanted = needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras)
            if wanted and needed.name.lower() not in found:
                waiting.append(needed)
        found[requirement.name.lower()] = package
    return found


def licence(package: Distribution) -> str:
    meta = package.metadata
    fields = ("License-Expression", "License", "Classifier")
    return " ".join(text[:200] for field in fields for text in meta.get_all(field) or [])


def test_no_dependency_is_under_the_gpl() -> None:
    packages = closure()
    assert {"numpy", "picows", "onnxruntime", "azure-core"} <= set(packages)  # the walk really walks
    strong = re.compile(r"(?<!L)(?<!Lesser )\bA?GPL|GNU (Affero )?General Public", re.IGNORECASE)
    assert [name for name, package in packages.items() if strong.search(licence(package))] == []


def test_no_wheel_ships_a_gpl_library() -> None:
    shared = [
        str(file)
        for package in closure().values()
        for file in package.files or []
        if re.search(r"\.(so|dylib|dll)(\.|$)", file.name)
    ]
    assert len(shared) > 20
    assert [path for path in shared if GPL_OBJECTS.search(path)] == []
