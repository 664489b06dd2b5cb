"""What HdfsStore makes of answers that are lost, late, wrong or from a NameNode on standby."""

import threading
from collections.abc import Callable, Iterator

import pytest

from tests.hadoop.cluster import HdfsCluster
from tests.hadoop.stand_in import DROP, FORWARD, LOSE, Answer, refusal, stand_in
from tiers.core.commit.answers import Moved
from tiers.errors import StoreRefused, StoreUnavailable
from tiers.sinks.files.stores.hdfs import HdfsStore
from tiers.sinks.files.stores.webhdfs import Upload, WebHdfs

DEAD = "http://127.0.0.1:1"  # nobody listens there
HTML = b"<html><body>Sign in to the network</body></html>"


def store_at(url: str, root: str = "/r", read_s: float = 10) -> HdfsStore:
    return HdfsStore(url=url, user="logs", root=root, connect_s=5, read_s=read_s)


def calls_of(store: HdfsStore) -> list[Callable[[], object]]:
    return [
        lambda: store.write("tmp/f", [b"x"]),
        lambda: store.move("f", "g"),
        lambda: store.replace("f", "g"),
        lambda: store.make_parents("d/f"),
        lambda: store.read("f"),
        lambda: store.length("f"),
        lambda: store.list("d"),
        lambda: store.delete("f"),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        DROP,
        Answer(500),
        Answer(500, b'{"error": "no RemoteException here"}'),
        Answer(500, b"[1]"),
        Answer(502, HTML),
        Answer(404, HTML),
        Answer(404, b'{"RemoteException": "no map"}'),
        Answer(200, b'{"FileStatus": {"length": 5', says_length=1000),
        refusal("RetriableException"),
        refusal("StandbyException"),
        refusal("SafeModeException", "Name node is in safe mode."),
        refusal("IOException", "Failed to find datanode, suggest to check cluster health."),
        refusal("SomethingNewException"),
    ],
    ids=repr,
)
def test_what_is_no_clear_answer_is_asked_again(answer: Answer) -> None:
    with stand_in(lambda operation, path: answer) as url:
        for call in calls_of(store_at(url)):
            with pytest.raises(StoreUnavailable):
                call()


def test_a_proxy_for_the_web_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, DEAD)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    datanode = ""

    def script(operation: str, path: str) -> Answer:
        if operation != "OPEN":
            return Answer(200, b'{"boolean": true}')
        return Answer(200, b"x") if "datanode" in path else Answer(307, location=datanode)

    with stand_in(script) as url:
        datanode = f"{url}/datanode/f?op=OPEN"
        store = store_at(url)
        store.make_parents("d/f")
        assert store.delete("f")
        assert store.read("f") == b"x"


@pytest.mark.parametrize("body", [HTML, b"{}", b"[]", b"", b'{"FileStatus": []}'])
def test_a_200_from_who_is_no_namenode_is_no_answer(body: bytes) -> None:
    with stand_in(lambda operation, path: Answer(200, body)) as url:
        store = store_at(url)
        calls: list[Callable[[], object]] = [
            lambda: store.write("tmp/f", [b"x"]),
            lambda: store.make_parents("d/f"),
            lambda: store.length("f"),
            lambda: store.list("d"),
            lambda: store.delete("f"),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailable):
                call()


def test_a_rename_that_answers_like_a_plain_one_is_refused() -> None:
    """HttpFS ignores renameoptions: there a move might replace, or go into a directory."""
    with stand_in(lambda operation, path: Answer(200, b'{"boolean":true}')) as url:
        store = store_at(url)
        for move in (store.move, store.replace):
            with pytest.raises(StoreRefused, match="renameoptions"):
                move("f", "g")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(401, b"who are you?"),
        refusal("AccessControlException", "Permission denied: user=logs"),
        refusal("AccessControlException", 'Permission denied: inode="/d/f (is not a directory)'),
        refusal("SecurityException", status=401),
        refusal("NSQuotaExceededException"),
        refusal("DSQuotaExceededException"),
        refusal("IllegalArgumentException", status=400),
    ],
    ids=repr,
)
def test_a_clear_no_is_refused_with_its_reason(answer: Answer) -> None:
    with stand_in(lambda operation, path: answer) as url:
        for call in calls_of(store_at(url)):
            with pytest.raises(StoreRefused) as caught:
                call()
            assert len(str(caught.value)) < 500


def test_a_server_that_says_nothing_is_given_up() -> None:
    release = threading.Event()

    def wait(operation: str, path: str) -> Answer:
        release.wait()
        return DROP

    with stand_in(wait) as url:
        for call in calls_of(store_at(url, read_s=0.1)):
            with pytest.raises(StoreUnavailable, match="timed out"):
                call()
        release.set()


def test_a_datanode_that_takes_nothing_is_given_up() -> None:
    """It answers nothing and reads nothing, so that the pieces pile up in the socket."""
    release = threading.Event()

    def answer(operation: str, path: str) -> Answer:
        if operation == "CREATE" and path.startswith("/webhdfs"):
            return Answer(307, location=f"{url}/datanode?op=CREATE")
        if path == "/datanode":
            release.wait()
            return DROP
        return refusal("FileNotFoundException", status=404)

    with stand_in(answer) as url:
        with pytest.raises(StoreUnavailable, match="timed out"):
            # The time for connecting is another one, and much longer here.
            store = HdfsStore(url=url, user="logs", root="/r", connect_s=1000, read_s=0.2)
            store.write("tmp/f", (b"x" * 2**20 for _ in range(64)))
        release.set()


def test_a_datanode_that_cannot_be_reached_is_left_for_another(hdfs_cluster: HdfsCluster) -> None:
    asked = 0

    def answer(operation: str, path: str) -> Answer:
        nonlocal asked
        if operation == "CREATE":
            asked += 1
            if asked < 3:
                return Answer(307, location=f"{DEAD}/webhdfs/v1{path}?op=CREATE")
        return FORWARD

    with stand_in(answer, hdfs_cluster.url) as url:
        store = store_at(url, hdfs_cluster.new_root())
        assert store.write("f", iter([b"whole"])) == 5
        assert asked == 3
        assert store.read("f") == b"whole"


@pytest.mark.parametrize(
    ("status", "stored", "complaint"),
    [
        (200, b"whole", "write"),
        (201, b"who", "3 bytes there, not 5"),
        (201, None, "None bytes there, not 5"),
        (201, b"whole", ""),
    ],
)
def test_an_upload_counts_only_with_its_201_and_its_length(
    hdfs_cluster: HdfsCluster, status: int, stored: bytes | None, complaint: str
) -> None:
    root = hdfs_cluster.new_root()

    def answer(operation: str, path: str) -> Answer:
        if path == "/datanode":
            if stored is not None:
                hdfs_cluster.store(root).write("f", [stored])
            return Answer(status)
        if operation == "CREATE":
            return Answer(307, location=f"{url}/datanode?op=CREATE")
        return FORWARD

    with stand_in(answer, hdfs_cluster.url) as url:
        store = store_at(url, root)
        if complaint:
            with pytest.raises(StoreUnavailable, match=complaint):
                store.write("f", [b"whole"])
        else:
            assert store.write("f", [b"whole"]) == 5


def test_a_201_before_all_was_sent_is_none() -> None:
    with stand_in(lambda operation, path: Answer(201, early=True)) as url:
        web = WebHdfs(url, "logs", connect_s=5, read_s=5)
        body = Upload(b"x" * 2**20 for _ in range(64))
        with pytest.raises(StoreUnavailable):
            web.put("write f", f"{url}/datanode?op=CREATE", body)


def test_an_upload_asks_for_a_sync_and_never_overwrites(hdfs_cluster: HdfsCluster) -> None:
    """Without SYNC_BLOCK a 201 is page cache (seen with strace: then no fsync at the DataNode).
    And an overwriting call that lands late would cut a file that is counted upon."""
    asked: list[str] = []
    with stand_in(lambda operation, path: FORWARD, hdfs_cluster.url, asked) as url:
        store = store_at(url, hdfs_cluster.new_root())
        store.write("f", [b"1"])
        store.write("f", [b"2"])
        assert store.read("f") == b"2"
    creates = [one for one in asked if "op=CREATE" in one]
    assert len(creates) == 2
    for one in creates:
        assert "createflag=CREATE%2CSYNC_BLOCK" in one
        assert "overwrite=false" in one
    assert not [one for one in asked if "op=DELETE" in one]


def test_a_name_that_hdfs_cannot_have_is_refused(hdfs_cluster: HdfsCluster) -> None:
    store = hdfs_cluster.store(hdfs_cluster.new_root())
    with pytest.raises(StoreRefused, match="Invalid"):
        store.make_parents("a:b/f")
    with pytest.raises(StoreRefused, match="PathComponentTooLong"):
        store.make_parents(f"{'x' * 256}/f")


@pytest.mark.parametrize("replaces", [False, True])
def test_a_lost_answer_to_a_move_is_never_taken_for_an_answer(
    hdfs_cluster: HdfsCluster, replaces: bool
) -> None:
    """Also where there is another NameNode to ask: it would say that the source is gone."""

    def lose_renames(operation: str, path: str) -> Answer:
        return LOSE if operation == "RENAME" else FORWARD

    with stand_in(lose_renames, hdfs_cluster.url) as url:
        store = store_at(f"{url};{hdfs_cluster.url}", hdfs_cluster.new_root())
        store.write("tmp/f", [b"1"])
        move = store.replace if replaces else store.move
        with pytest.raises(StoreUnavailable):
            move("tmp/f", "g")
        assert store.read("g") == b"1"  # it was carried out
        assert move("tmp/f", "g") is Moved.SOURCE_GONE


@pytest.fixture(params=["standby", "dead", "dropping"])
def not_serving(request: pytest.FixtureRequest) -> Iterator[str]:
    """The url of a first NameNode that serves nobody."""
    if request.param == "dead":
        yield DEAD
        return
    answer = refusal("StandbyException") if request.param == "standby" else DROP
    with stand_in(lambda operation, path: answer) as url:
        yield url


def test_the_namenode_that_serves_is_found(hdfs_cluster: HdfsCluster, not_serving: str) -> None:
    store = store_at(f"{not_serving};{hdfs_cluster.url}", hdfs_cluster.new_root())
    assert store.read("tmp/f") is None
    assert store.write("tmp/f", [b"1"]) == 1
    assert store.move("tmp/f", "g") is Moved.DONE
    assert store.list("tmp") == []
    assert store.now_ms() > 0


def test_a_move_goes_on_to_the_next_namenode_where_it_was_certainly_not_made(
    hdfs_cluster: HdfsCluster,
) -> None:
    root = hdfs_cluster.new_root()
    hdfs_cluster.store(root).write("f", [b"1"])
    with stand_in(lambda operation, path: refusal("StandbyException")) as standby:
        store = store_at(f"{standby};{DEAD};{hdfs_cluster.url}", root)
        assert store.move("f", "g") is Moved.DONE
        assert store.move("f", "g") is Moved.SOURCE_GONE


def test_the_name_says_where() -> None:
    store = store_at("http://nn1:9870;http://nn2:9870", "/logs/web")
    assert store.where() == "hdfs http://nn1:9870;http://nn2:9870 /logs/web"
