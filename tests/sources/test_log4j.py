"""A real log4j 2 through its Syslog appender, with the log4j2.xml that the README shows."""

import asyncio
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.sources.intake import RecordingIntake
from tests.sources.test_syslog import listening, ports
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "log4j"
COUNT = 200


@pytest.fixture(scope="module")
def jars() -> Path:
    """log4j's jars from Maven Central, by the script that people use."""
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"no {' and no '.join(missing)} here")
    subprocess.run([ROOT / "scripts" / "jars", "log4j"], check=True, timeout=240)
    return ROOT / ".jars" / "log4j"


@pytest.mark.parametrize(
    ("protocol", "given"), [("tcp", []), ("tcp", ["-Dprotocol=TCP"]), ("udp", ["-Dprotocol=UDP"])]
)
async def test_log4j(jars: Path, protocol: str, given: list[str]) -> None:
    intake = RecordingIntake()
    async with listening(intake) as source:
        command = [
            "java",
            *("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m"),
            *("-cp", f"{jars}/*"),
            f"-Dlog4j2.configurationFile={HERE / 'log4j2.xml'}",
            f"-Dport={ports(source)[protocol]}",
            *given,
            *(str(HERE / "LogSome.java"), str(COUNT)),
        ]
        run = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=120)
        assert run.returncode == 0, run.stderr.decode()
        await eventually(lambda: intake.events >= COUNT + 2)
    shape = re.compile(rb"<134>1 \S+ \S+ shop \d+ - - message (\d+) of 200\n")
    found = [shape.fullmatch(line) for line in intake.lines[:COUNT]]
    assert [int(match[1]) for match in found if match] == list(range(COUNT))
    warning, error = intake.lines[COUNT:]
    assert warning.endswith("Grüße\tand 12 <tags>\n".encode())
    assert error.endswith(b"two\\nlines\n")
