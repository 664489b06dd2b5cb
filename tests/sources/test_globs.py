"""What a glob says by itself."""
# ruff: noqa: PTH207

import glob
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiers.sources.globs import finds_below, finds_compressed, overlap, wrong


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "is empty"),
        (" /var/log/a.log", "blanks"),
        ("/var/log/a.log\n", "blanks"),
        ("file:///var/log/a.log", "write '/var/log/a.log'"),
        ("file://var/log/a.log", "is a URL"),
        ("http://host/a.log", "is a URL"),
        ("s3://bucket/a.log", "is a URL"),
        ("~/logs/*.log", "'~'"),
        ("~www/logs/*.log", "'~'"),
        ("$HOME/logs/*.log", "write ${HOME}"),
        ("/home/$USER/*.log", "write ${USER}"),
        ("/var/log/{nginx,apache}/*.log", "'{nginx,apache}'"),
        ("/var/log/app.{log,out,err}", "'{log,out,err}'"),
        ("C:\\logs\\a.log", "no path of this system"),
        ("/var/log/", "is a directory: write which of its files, such as /var/log/*.log"),
        ("/var/log/.", "is a directory"),
        ("/var/log/..", "is a directory"),
        ("/var/log/**/", "is a directory"),
        (f"/var/log/{'x' * 256}", "more than 255 bytes"),
        (f"/var/log/{'é' * 128}", "more than 255 bytes"),
    ],
)
def test_what_cannot_mean_what_its_author_means(path: str, said: str) -> None:
    assert said in wrong(path)


@pytest.mark.parametrize(
    "path",
    ["/var/log/nginx/*.log", "logs/a.log", "/a/**/*.log", "/a/{b}.log", "/a/b c.log", "/a/x~",
     "/a/[!b]?", "/var/log/pods/ns_pod_{uid}/0.log", "/a/50$.log", "/a/b:c"],
)  # fmt: skip
def test_what_may_be_meant(path: str) -> None:
    assert wrong(path) == ""


@pytest.mark.parametrize(
    ("a", "b", "both"),
    [
        ("/var/log/a.log", "/var/log/a.log", True),
        ("/var/log/a.log", "/var/log/b.log", False),
        ("/var/log/*.log", "/var/log/a.log", True),
        ("/var/log/*.log", "/var/log/nginx/a.log", False),
        ("/var/log/**/*.log", "/var/log/nginx/a.log", True),
        ("/var/log/**/*.log", "/var/log/a.log", True),
        ("/var/log/**/*.log", "/var/**/access*", True),
        ("/var/log/**/*.log", "/srv/**/access*", False),
        ("/var/log/a*", "/var/log/*b", True),
        ("/var/log/a*.log", "/var/log/b*.log", False),
        ("/var/log/[a-m]*.log", "/var/log/[n-z]*.log", False),
        ("/var/log/[a-n]*.log", "/var/log/[n-z]*.log", True),
        ("/var/log/[!a]*.log", "/var/log/a*.log", False),
        ("/var/log/[!a]*.log", "/var/log/[!b]*.log", True),
        ("/var/log/*", "/var/log/.hidden", False),
        ("/var/**/x.log", "/var/.cache/x.log", False),
        ("/var/log/app-?.log", "/var/log/app-10.log", False),
        ("/var/log/app-??.log", "/var/log/app-10.log", True),
        ("/var/log//a.log", "/var/./log/a.log", True),
        ("/var/log/[]]x", "/var/log/]x", True),
        ("/var/log/[x", "/var/log/[x", True),
        ("/var/log/[b-d]", "/var/log/b", True),
        ("/var/log/[b-d]", "/var/log/d", True),
        ("/var/log/[b-d]", "/var/log/a", False),
        ("/var/log/[b-d]", "/var/log/e", False),
        ("/var/log/[--0]", "/var/log/[!-0]", True),  # a dot; the slash behind it is none
        ("/var/log/[b-d]", "/var/log/[!bd]", True),
        ("/var/log/[bd]", "/var/log/[!b-d]", False),
    ],
)
def test_two_globs_may_find_one_file(a: str, b: str, both: bool) -> None:
    assert overlap(a, b) is both
    assert overlap(b, a) is both


@pytest.mark.parametrize(
    ("pattern", "directory", "found"),
    [
        ("/logs/**/*.log", "/logs/out", True),
        ("/logs/**", "/logs/out", True),
        ("/logs/*.log", "/logs/out", False),
        ("/logs/*/*/*.log", "/logs/out", True),
        ("/logs/out/x/y.log", "/logs/out", True),
        ("/logs/out*", "/logs/out", False),
        ("/logs/outer/*.log", "/logs/out", False),
        ("/**/*.log", "/srv/[x]", True),
        ("/srv/x/*.log", "/srv/[x]", False),
        ("/logs/**/*.log", "/", True),
    ],
)
def test_what_lies_below_a_directory(pattern: str, directory: str, found: bool) -> None:
    assert finds_below(pattern, directory) is found


@pytest.mark.parametrize(
    ("pattern", "compressed"),
    [("/a/*.gz", True), ("/a/*", True), ("/a/app.log*", True), ("/a/app.log.?.bz2", True),
     ("/a/*.log", False), ("/a/app.log", False), ("/a/app.log.[0-9]", False), ("/a/x.Z", True)],
)  # fmt: skip
def test_compressed_files(pattern: str, compressed: bool) -> None:
    assert finds_compressed(pattern) is compressed


NAMES = ["a", "b", "ab", "ba", ".a", "aab"]
PARTS = st.sampled_from(["*", "**", "a", "b", "a*", "*b", "?", "[ab]", "[!a]*", ".a", ".*", "*a*"])
GLOBS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every path of up to three of these names, the last a directory as well as any."""
    top = tmp_path_factory.mktemp("tree")
    for one in NAMES:
        for two in NAMES:
            for three in NAMES:
                (top / one / two / three).mkdir(parents=True)
    return top


@settings(max_examples=300, deadline=None)
@given(GLOBS, GLOBS)
def test_what_two_globs_find_together_is_foretold(tree: Path, a: str, b: str) -> None:
    one, other = (f"{glob.escape(str(tree))}/{pattern}" for pattern in (a, b))
    found = {path.rstrip("/") for path in glob.glob(one, recursive=True)}
    both = found & {path.rstrip("/") for path in glob.glob(other, recursive=True)}
    assert overlap(one, other) or not both
