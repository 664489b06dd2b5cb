"""What a topology file may say of the two file sinks, and where they write."""

from pathlib import Path

import pytest

from tiers.sinks.directory import DirectoryOptions
from tiers.sinks.hdfs import HdfsOptions, HdfsSink


def hdfs(**more: object) -> HdfsOptions:
    return HdfsOptions.model_validate(
        {"type": "hdfs", "url": "http://nn:9870", "root": "/l", **more}
    )


def test_defaults() -> None:
    options = DirectoryOptions.model_validate({"type": "directory", "root": "out"})
    assert (options.path_template(), options.codec) == ("%Y/%m/%d/%H", "none")
    assert (options.roll_size_bytes, options.roll_after_s) == (128 << 20, 60.0)
    assert (hdfs().connect_timeout_s, hdfs().read_timeout_s) == (5.0, 60.0)


def test_units() -> None:
    options = hdfs(roll_size="1GiB", roll_after="10min", read_timeout="2s")
    assert (options.roll_size_bytes, options.roll_after_s) == (1 << 30, 600.0)
    assert options.read_timeout_s == 2.0


def test_levels() -> None:
    assert hdfs(codec="zstd").level_of(15) == 15
    assert hdfs(codec="gzip").level_of(15) == 9
    assert hdfs(codec="gzip", level=4).level_of(15) == 4
    with pytest.raises(ValueError, match="1 to 9"):
        hdfs(codec="gzip", level=10)


@pytest.mark.parametrize("root", ["/data/logs", "/data/./logs/", "/data/x/../logs"])
def test_a_directory_has_one_place(root: str) -> None:
    options = DirectoryOptions.model_validate({"type": "directory", "root": root})
    assert options.place() == "directory /data/logs"


def test_a_relative_root_is_below_the_working_directory() -> None:
    options = DirectoryOptions.model_validate({"type": "directory", "root": "logs"})
    assert options.place() == f"directory {Path.cwd() / 'logs'}"


def test_hdfs_has_one_place_whatever_the_order_of_its_namenodes() -> None:
    one = hdfs(url="http://nn2:9870/; http://nn1:9870", root="/logs/")
    other = hdfs(url="http://nn1:9870;http://nn2:9870", root="//logs")
    assert one.place() == other.place() == "hdfs http://nn1:9870;http://nn2:9870 /logs"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://nn1:9870,http://nn2:9870", "separated by ';'"),
        ("http://nn1:9870, http://nn2:9870", "separated by ';'"),
        ("http://nn1:9870 http://nn2:9870", "separated by ';'"),
        ("http://nn1:9870/webhdfs/v1", "/webhdfs/v1 is added"),
        ("http://nn1:9870/webhdfs/v1/;http://nn2:9870", "/webhdfs/v1 is added"),
        ("http://nn1:9870?user.name=me", "nothing comes behind the port"),
        ("nn1:9870", "begins with http://"),
        ("http://nn1:9870;nn2:9870", "begins with http://"),
        ("hdfs://nn1:8020", "WebHDFS is not hdfs://"),
        ("webhdfs://nn1:9870", "WebHDFS is not hdfs://"),
        ("hdfs://nameservice1", "WebHDFS is not hdfs://"),
        ("http://nn1:8020", "8020 is the port of Hadoop's RPC"),
        ("http://nn1:9870;http://nn2:9000", "9000 is the port of Hadoop's RPC"),
        ("http://:9870", "each has a host"),
        ("http://", "begins with http://"),
        ("http://nn1:98700", "0-65535"),
        ("http://nn1:port", "port"),
        ("http://[::1:9870", "IPv6"),
    ],
)
def test_wrong_namenodes_are_told_what_to_write(url: str, said: str) -> None:
    with pytest.raises(ValueError, match="NameNodes such as") as caught:
        hdfs(url=url)
    assert said in str(caught.value)


def test_who_logs_in_is_not_shown() -> None:
    options = hdfs(url="https://me:secret@nn1:9871;https://nn2:9871")
    assert options.place() == "hdfs https://***@nn1:9871;https://nn2:9871 /l"
    store = HdfsSink.open_store(options)
    assert "secret" not in store.where()
    store.close()


@pytest.mark.parametrize(
    "wrong",
    [{"url": "nn1:9870"}, {"url": ";"}, {"root": "logs"}, {"read_timeout": 0}, {"roll_size": 0}],
)
def test_wrong_options(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        hdfs(**wrong)
