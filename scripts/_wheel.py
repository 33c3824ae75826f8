"""Looks at what was built: is everything in it that a user needs, and nothing else?"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

PACKAGE = "airflow_provider_omnimessage"
ROOT = Path(__file__).resolve().parent.parent


def main(folder: str) -> None:
    """
    Check the wheel and the source distribution of a folder.

    :param folder: holds one of each.
    """
    (wheel,) = Path(folder).glob("*.whl")
    (source,) = Path(folder).glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata_name = next(name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(metadata_name).decode())
        entry_points = archive.read(metadata_name.replace("METADATA", "entry_points.txt")).decode()
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packaged = {name for name in names if ".dist-info/" not in name}
    problems = []
    if packaged != expected:
        problems.append(f"missing: {sorted(expected - packaged)}; too much: {sorted(packaged - expected)}")
    if f"provider_info = {PACKAGE}.provider_info:get_provider_info" not in entry_points:
        problems.append("the entry point that Airflow looks for is missing")
    if f"omnimessage = {PACKAGE}.sandbox.pytest_plugin" not in entry_points:
        problems.append("the entry point that pytest looks for is missing")
    if not any(name.endswith("licenses/LICENSE") for name in names):
        problems.append("the licence is missing")
    if not any(wanted.startswith("apache-airflow>=") for wanted in metadata.get_all("Requires-Dist", [])):
        problems.append("the wheel does not ask for Airflow")
    with tarfile.open(source) as archive:
        tops = {Path(member.name).parts[1] for member in archive.getmembers() if len(Path(member.name).parts) > 1}
    if (
        not {PACKAGE, "example_dags", "scripts", "tests", "README.md", "LICENSE", "SECURITY.md", "pyproject.toml"}
        <= tops
    ):
        problems.append(f"the source distribution holds only {sorted(tops)}")
    if problems:
        raise SystemExit("\n".join(problems))
    print(f"{wheel.name}: {len(packaged)} files, {wheel.stat().st_size / 1024:.0f} KiB, everything in its place")


if __name__ == "__main__":
    main(*sys.argv[1:])
