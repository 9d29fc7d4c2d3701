"""The binding's structs and functions against the header and the C compiler."""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

import lorasc
from lorasc import _signatures, _structs
from lorasc._library import library


def test_struct_layouts_are_the_compilers(repository: Path, tmp_path: Path) -> None:
    lines = []
    for name, struct in _structs.ALL.items():
        lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
        for member, *_ in struct._fields_:
            lines.append(
                f'printf("{name}.{member} %zu %zu\\n", offsetof({name}, {member}), '
                f"sizeof((({name} *)0)->{member}));"
            )
    source = tmp_path / "layout.c"
    source.write_text(
        "#include <lorasc.h>\n#include <stdio.h>\nint main(void) {\n"
        + "\n".join(lines)
        + "\nreturn 0;\n}\n"
    )
    program = tmp_path / "layout"
    compiler = shlex.split(os.environ.get("CC") or "cc")
    subprocess.run([*compiler, f"-I{repository}/include", source, "-o", program], check=True)
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout

    expected = []
    for name, struct in _structs.ALL.items():
        expected.append(f"{name} {ctypes.sizeof(struct)}")
        for member, *_ in struct._fields_:
            field = getattr(struct, member)
            expected.append(f"{name}.{member} {field.offset} {field.size}")
    assert printed.splitlines() == expected


def header_text(repository: Path) -> str:
    text = (repository / "include" / "lorasc.h").read_text()
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def test_every_struct_and_member_of_the_header_is_bound(repository: Path) -> None:
    structs = re.findall(r"typedef struct (\w+) \{(.*?)\}", header_text(repository), re.DOTALL)
    assert dict(structs).keys() == _structs.ALL.keys()
    for name, body in structs:
        members = re.findall(r"(\w+)(?:\[\d+\])?(?=[;,])", body)
        assert members == [member for member, *_ in _structs.ALL[name]._fields_], name


def test_every_function_of_the_header_is_bound(repository: Path) -> None:
    declarations = re.findall(
        r"^(?:const )?\w+ \**(lorasc_\w+)\(([^;]*?)\);", header_text(repository), re.MULTILINE
    )
    counts = {
        name: 0 if arguments.strip() == "void" else arguments.count(",") + 1
        for name, arguments in declarations
    }
    bound = {name: len(types) for name, (_, types) in _signatures.FUNCTIONS.items()}
    assert counts == bound


def test_every_status_of_the_header_is_bound(repository: Path) -> None:
    pairs = re.findall(
        r"LORASC_(?:E_)?(\w+) = (\d+)", header_text(repository).split("} lorasc_status")[0]
    )
    assert {name: int(number) for name, number in pairs} == {s.name: int(s) for s in lorasc.Status}


@pytest.mark.parametrize("status", list(lorasc.Status)[1:])
def test_status_names(status: lorasc.Status) -> None:
    assert library().lorasc_status_name(status).decode() == f"LORASC_E_{status.name}"


def test_unknown_status_has_a_name() -> None:
    assert library().lorasc_status_name(12345) == b"LORASC_E_?"


def test_versions_agree(repository: Path) -> None:
    header = (repository / "include" / "lorasc.h").read_text()
    assert f'LORASC_VERSION "{lorasc.__version__}"' in header
    assert lorasc.version() == lorasc.__version__
    assert "\n" not in lorasc.build_info()
    assert lorasc.build_info()
