"""The counting sees what it is there to see: each kind of wrong, planted."""

import gzip
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.faults.counting import GENERATED, LINE, Pauses, Published
from tests.faults.settling import tell
from tests.waiting import wait_for

LINES = [LINE % (b"edge-1", number) for number in range(100)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "published.log"


@pytest.mark.parametrize(
    ("content", "missing", "doubled", "strange", "example"),
    [
        (LINES, 0, 0, 0, ""),
        (LINES[:50] + LINES[51:], 1, 0, 0, "the first missing of edge-1: 50"),
        (LINES[:-2], 2, 0, 0, "the first missing of edge-1: 98"),
        ([], 100, 0, 0, "the first missing of edge-1: 0"),
        ([*LINES, LINES[7], LINES[7]], 0, 2, 0, "again in FILE: edge-1 0000007 the quick"),
        ([*LINES, b"something else\n"], 0, 0, 1, "lines that nobody wrote in FILE"),
        ([*LINES, LINE % (b"edge-1", 100)], 0, 0, 1, ""),
        ([*LINES, LINE % (b"edge-2", 0)], 0, 0, 1, ""),
        ([*LINES[:-1], LINES[-1].replace(b"lazy", b"lasy")], 1, 0, 1, "lines that nobody wrote"),
        ([*LINES[:-1], LINES[-1][:-9]], 1, 0, 1, "lines that nobody wrote"),
        ([*LINES[:-1], LINES[-1][:-9] + LINES[7]], 1, 0, 1, "lines that nobody wrote"),
    ],
)
def test_each_kind_of_wrong_is_seen(
    file: Path, content: list[bytes], missing: int, doubled: int, strange: int, example: str
) -> None:
    file.write_bytes(b"".join(content))
    count = Published().look([file]).against({b"edge-1": 100})
    assert (count.accepted, count.missing, count.doubled) == (100, missing, doubled)
    assert (count.strange, count.right) == (strange, len(content) == 100 and content == LINES)
    assert count.published == b"".join(content).count(b"\n") + (content[-1:] == [LINES[-1][:-9]])
    assert example.replace("FILE", str(file)) in str(count)


def test_a_line_in_two_files_and_a_file_that_is_read_once(tmp_path: Path) -> None:
    first, second = tmp_path / "first.log", tmp_path / "second.log.gz"
    first.write_bytes(b"".join(LINES[:60]))
    second.write_bytes(gzip.compress(b"".join(LINES[59:])))
    seen = Published()
    for _ in range(2):
        seen.look([first])
    assert seen.against({b"edge-1": 100}).missing == 40
    count = seen.look([first, second]).against({b"edge-1": 100})
    assert (count.missing, count.doubled, count.published) == (0, 1, 101)
    assert not count.right


def test_lines_of_a_generate_source(file: Path) -> None:
    access = b'1.2.3.4 - - [26/Nov/2026:16:00:00 +0000] "GET /cart?n=0a1b2c3d-%012d HTTP/1.1" 200\n'
    file.write_bytes(access % 1 + b"0a1b2c3d-000000000002 6bb1\n" + access % 4 + access % 4)
    count = Published().look([file]).against({GENERATED: 4})
    assert (count.missing, count.doubled, count.strange, count.published) == (1, 1, 0, 4)


def test_a_double_planted_in_the_store_of_a_cluster(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, edges=1)
    try:
        cluster.write("edge-1", 100)
        (cluster.out / "web").mkdir(parents=True)
        (cluster.out / "web" / "a.log").write_bytes(b"".join(LINES))
        (count,) = tell(cluster)
        assert count.published == 100
        (cluster.out / "web" / "b.log").write_bytes(LINES[3])
        with pytest.raises(AssertionError, match="doubled=1"):
            tell(cluster)
        tell(cluster, "so it is promised")
    finally:
        cluster.close()


def test_a_pause_is_timed_while_lines_wait_and_no_longer() -> None:
    files, now_s, looks = {"a": 0, "b": 0}, 100, 0

    def look() -> dict[str, int]:
        nonlocal looks
        looks += 1
        return dict(files)

    def looked() -> None:
        """Wholly since it was called."""
        before = looks
        wait_for(lambda: looks > before + 1)

    pauses = Pauses(look, 0.001, lambda: now_s)
    for ended in range(2):
        pauses.lines_wait()
        looked()
        for _ in range(5):  # b is published all the time
            now_s += 1
            looked()
            files["b"] += 1
            looked()
        files["a"] += 1
        pauses.all_is_published()
        wait_for(lambda: pauses.ended == ended + 1)  # noqa: B023
        assert pauses.longest_s == {"a": 5, "b": 1}
        now_s += 100
    pauses.close()
    assert pauses.longest_s == {"a": 5, "b": 1}
