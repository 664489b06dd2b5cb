"""Who is shown the door when too many are connected."""

from dataclasses import replace
from itertools import count
from random import Random

import pytest

from tiers.core.hop.visitors import Allowed, BytesMoved, VisitorLimits, Visitors

LIMITS = VisitorLimits(strangers_max=10, bytes_max=1000, silence_s=60.0, greeting_s=2.0)


class House:
    """Visitors with sessions that may be sent `room` bytes each."""

    def __init__(self) -> None:
        self.sessions: dict[bytes, int] = {}
        self.awaited = 0
        self.visitors = Visitors(LIMITS, self.room, lambda: self.awaited)

    def room(self, port: str, session: bytes) -> Allowed | None:
        most = self.sessions.get(session)
        return None if most is None else Allowed(most // 2, most)

    def came(self, *keys: int, address: str = "a", port: str = "data", now: float = 0.0) -> str:
        gone = [g for key in keys for g in self.visitors.came(key, port, address, now)]
        return " ".join(str(one.key) for one in gone)

    def prove(self, key: int, session: bytes, room: int = 100) -> None:
        self.sessions[session] = room
        self.visitors.proved(key, session)

    def look(self, now: float = 0.0, **came: int) -> str:
        counts = {int(key.removeprefix("k")): BytesMoved(count) for key, count in came.items()}
        return " ".join(str(one.key) for one in self.visitors.look(counts, now))


def test_of_too_many_those_go_that_came_first_and_had_time() -> None:
    house = House()
    assert house.came(*range(1, 11)) == ""
    assert house.came(11, 12, now=1.9) == "11 12", "all the others are within their time"
    assert house.came(13, 14, now=2.0) == "1 2"
    assert house.came(15, address="b", now=2.0) == "3"
    assert len(house.visitors) == 10


def test_of_a_crowd_one_goes_for_who_comes_from_elsewhere() -> None:
    house = House()
    house.came(*range(1, 11))
    assert house.came(11, address="honest") == "1", "within its time, but there are many of it"
    for key in range(20, 120):
        house.came(key)
        house.came(12, address="honest too")  # it tries again
    assert house.visitors.strangers == 10
    assert {house.visitors.get(key) is not None for key in (11, 12)} == {True}


def test_where_no_address_has_many_the_oldest_of_all_goes() -> None:
    house = House()
    for key, address in enumerate("abcdefghij", start=1):
        house.came(key, address=address, now=key / 10)
    house.came(11, address="j", now=1.0)
    assert house.came(12, address="k", now=2.0) == "12"
    assert house.came(13, address="k", now=2.1) == "1"


STEP_S = 0.05  # who was closed comes again after one or two
SESSION_STEPS = 6  # with both connections there, until the session is on


def settled_after(agents: int, limits: VisitorLimits) -> float:
    """Seconds until all of them, that come at once from one address, have a session."""
    visitors, keys, random = (
        Visitors(limits, lambda port, session: Allowed(1, 1)),
        count(1),
        Random(1),
    )
    here: dict[int, dict[str, tuple[int, int]]] = {agent: {} for agent in range(agents)}
    whose: dict[int, tuple[int, str]] = {}
    for step in range(2000):
        for agent, ports in list(here.items()):
            if (
                len(ports) == 2
                and max(since for _, since in ports.values()) + SESSION_STEPS <= step
            ):
                for key, _ in ports.values():
                    visitors.proved(key, b"%d" % agent)
                del here[agent]
        if not here:
            return step * STEP_S
        missing = [(agent, port) for agent in here for port in ("data", "control")]
        random.shuffle(missing)
        for agent, port in missing:
            if port not in here[agent] and (not step or random.random() < 0.7):
                key = next(keys)
                here[agent][port], whose[key] = (key, step), (agent, port)
                for gone in visitors.came(key, port, "nat", step * STEP_S):
                    of, at = whose.pop(gone.key)
                    del here[of][at]
    raise AssertionError(f"{len(here)} have no session")


@pytest.mark.parametrize(("agents", "within_s"), [(400, 0.5), (1000, 0.5), (2000, 5), (4000, 20)])
def test_many_agents_that_come_at_once_from_one_address_all_have_sessions_soon(
    agents: int, within_s: float
) -> None:
    assert settled_after(agents, VisitorLimits()) <= within_s


def test_who_has_a_session_is_not_counted_and_stays() -> None:
    house = House()
    for key in range(1, 101):
        assert house.came(key) == ""
        house.prove(key, b"%d" % key)
    house.came(*range(200, 300))
    assert house.visitors.strangers == 10
    assert len(house.visitors) == 110
    assert house.look(1000.0) == " ".join(str(key) for key in range(200, 210)), "silent for long"
    assert len(house.visitors) == 100


def test_a_session_has_one_connection_on_each_port() -> None:
    house = House()
    house.came(1, 2)
    house.came(3, port="control")
    for key in (1, 3, 2, 2):
        house.prove(key, b"s")
    assert house.visitors.strangers == 1
    assert house.visitors.get(1) is not None
    house.visitors.left(1)
    assert house.visitors.strangers == 0


def test_whose_session_is_over_is_a_stranger_again() -> None:
    house = House()
    house.came(1)
    house.prove(1, b"s")
    assert house.look(100.0) == ""
    del house.sessions[b"s"]
    assert house.look(200.0) == ""
    assert house.visitors.strangers == 1
    assert house.look(261.0) == "1"


def test_of_bytes_that_wait_those_go_that_have_stalled() -> None:
    house = House()
    house.came(1, 2, 3)
    assert house.look(1.0, k1=900) == ""
    assert house.look(2.0, k1=900, k2=90) == ""
    assert house.look(3.0, k1=900, k2=200) == "1", "not the one that is sending"
    assert house.look(4.0, k2=700, k3=700) == "2", "both are sending: the first of those alike"
    assert house.visitors.strangers == 1


def test_what_sessions_may_send_before_they_are_known_is_not_a_strangers() -> None:
    house = House()
    house.came(1, 2)
    house.awaited = 500
    assert house.look(1.0, k1=1500) == ""
    assert house.look(2.0, k1=1500, k2=1) == "1"


def test_what_was_taken_is_not_held() -> None:
    house = House()
    house.came(1)
    visitor = house.visitors.get(1)
    assert visitor is not None
    visitor.taken = 5000
    assert house.look(1.0, k1=5900) == ""
    house.visitors.patient = True  # a small message takes many times its bytes
    assert house.look(2.0, k1=5900) == "1"


def test_silence_is_not_theirs_while_nothing_is_taken() -> None:
    house = House()
    house.came(1)
    house.visitors.patient = True
    assert house.look(1000.0) == ""
    house.visitors.patient = False
    assert house.look(1000.0) == "1"


def test_a_guest_holds_what_its_session_allows() -> None:
    house = House()
    house.came(1, 2)
    house.prove(1, b"s", room=500)
    house.prove(2, b"t", room=500)
    assert house.look(1.0, k1=500, k2=501) == "2"


def test_many_guests_are_looked_at_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiers.core.hop.visitors._GUESTS_AT_ONCE", 2)
    house = House()
    for key in range(1, 7):
        house.came(key)
        house.prove(key, b"%d" % key)
    looked = []
    for now in range(3):
        looked += house.visitors.to_look_at(0)
        house.look(float(now))
    assert looked == [1, 2, 3, 4, 5, 6]


def test_a_descriptor_that_is_used_again_is_another_connection() -> None:
    house = House()
    house.came(1)
    house.prove(1, b"s")
    house.came(1, address="b")
    visitor = house.visitors.get(1)
    assert visitor is not None
    assert (visitor.address, visitor.session) == ("b", b"")
    house.visitors.left(2)  # nothing


def test_the_limits_are_those_that_are_promised() -> None:
    visitors = Visitors(VisitorLimits(), lambda port, session: None)
    gone = 0
    for key in range(1, 2060):
        gone += len(list(visitors.came(key, "data", f"10.0.{key // 200}.1", 0.0)))
        assert gone == max(0, key - 2048)


def test_many_strangers_are_looked_at_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiers.core.hop.visitors._STRANGERS_AT_ONCE", 2)
    house = House()
    house.came(*range(1, 6))
    assert [house.visitors.to_look_at() for _ in range(2)] == [[1, 2], [3, 4]]
    house.visitors.left(5)
    house.came(6)
    looked = [key for _ in range(4) for key in house.visitors.to_look_at()]
    assert looked == [5, 1, 2, 3, 4, 6], "one that is gone costs nothing"
    assert house.visitors.to_look_at(100 * MB) == [1, 2]
    assert house.visitors.to_look_at(200 * MB) == [1, 2, 3, 4, 6], "all, where memory grew"


MB = 1 << 20
ROOMY = VisitorLimits(bytes_max=40 * MB)  # of memory 64 MiB more than usual


class Hall(House):
    """Visitors of a process whose memory is told."""

    def __init__(self) -> None:
        super().__init__()
        self.pending_mb = 0
        self.visitors = Visitors(ROOMY, self.room, pending=lambda: self.pending_mb * MB)
        self.came(*range(1, 6))

    def swells(self, memory_mb: int, now: float = 0.0, **came: int) -> str:
        """Who goes, of those of whom so many bytes have come."""
        counts = {int(key.removeprefix("k")): BytesMoved(count) for key, count in came.items()}
        looked = set(self.visitors.to_look_at(memory_mb * MB))
        assert counts.keys() <= looked
        gone = self.visitors.look(counts, now, memory_mb * MB)
        return " ".join(str(one.key) for one in gone)


def test_strangers_that_hold_little_and_take_much_go_all() -> None:
    hall = Hall()
    assert hall.swells(50, k1=5000, k2=4000, k3=MB) == ""
    assert hall.swells(114, k1=5000, k2=4000, k3=MB) == "", "not more than is allowed"
    assert hall.swells(117, k1=5000, k2=4000, k3=MB) == "1 3"
    assert hall.swells(117, k2=4096) == "2", "until it is given back"
    assert hall.swells(40, k4=4096) == ""
    assert hall.swells(105, k4=4096) == "4", "what is usual is the least"


def test_memory_that_bytes_explain_is_nobodys_fault() -> None:
    hall = Hall()
    assert hall.swells(50) == ""
    assert hall.swells(115 + 2 * 30, k1=30 * MB + MB) == ""
    hall.pending_mb = 40
    assert hall.swells(115 + 2 * 70, k1=30 * MB + MB) == "", "nor what waits for the disk"
    hall.pending_mb = 0
    assert hall.swells(115 + 2 * 31, k1=30 * MB + MB) == "1"


def test_memory_of_many_sessions_is_not_laid_to_who_sends_a_little() -> None:
    hall = Hall()
    assert hall.swells(50) == ""
    for key in range(1, 2001):
        hall.came(key)
        hall.prove(key, b"%d" % key, room=40 * MB)
    assert hall.swells(50 + 80 + 60, k1=5000, k2=MB) == ""
    assert hall.swells(50 + 80 + 80, k1=5000, k2=MB) == "2 1"


def test_a_crowd_with_a_few_small_messages_each_stays() -> None:
    """1,000 senders were let in, and 362 connections of theirs closed, for what libzmq's buffers
    took for messages of some KB."""
    hall = Hall()
    assert hall.swells(50) == ""
    for key in range(1, 1001):
        hall.came(key)
        hall.prove(key, b"%d" % key, room=40 * MB)
    held = {f"k{key}": 5000 for key in range(1, 1001)}
    crowd = 50 + 1000 * 44 // 1024
    assert hall.swells(crowd + 64 + 62, **held) == ""
    assert hall.swells(crowd + 64 + 64, **held) != "", "and that is bounded"


def test_an_agent_may_need_more_than_before() -> None:
    hall = Hall()
    assert hall.swells(50) == ""
    assert hall.swells(200, now=0.0) == ""
    assert hall.swells(200, now=10.0) == ""
    assert hall.swells(200, now=10.1) == ""
    assert hall.swells(250, now=10.2, k1=5000) == ""
    assert hall.swells(265, now=10.3, k1=5000) == "1"


def test_of_guests_those_go_that_hold_most_and_only_as_memory_grows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tiers.core.hop.visitors._GUESTS_AT_ONCE", 1)
    hall = Hall()
    for key in range(1, 6):
        hall.prove(key, b"%d" % key, room=40 * MB)
    assert hall.swells(50) == ""
    held = {"k1": 4000, "k2": MB, "k3": 2 * MB, "k4": 3 * MB, "k5": 5000}
    assert hall.swells(50 + 116, **held) == "4", "3 MiB of small parts can be 120 MiB"
    assert hall.swells(50 + 116, k2=MB) == "", "it may not be freed yet"
    assert hall.swells(300, k2=MB, k3=2 * MB) == "3 2 5"
    assert hall.visitors.get(1) is not None


def test_a_session_whose_connection_is_over_is_told_once() -> None:
    house = House()
    house.came(1, 2, 3, port="control")
    house.came(4)
    for key, session in ((1, b"s"), (2, b"s"), (4, b"s"), (3, b"t")):
        house.prove(key, session)
    house.visitors.left(1)
    assert not house.visitors.over, "it has a newer connection"
    for key in (2, 2, 4):
        house.visitors.left(key)
    house.prove(3, b"t", room=5)
    assert house.look(1.0, k3=6) == "3"
    assert list(house.visitors.over) == [("control", b"s"), ("data", b"s"), ("control", b"t")]


def test_of_those_who_do_not_read_the_one_goes_to_whom_most_was_said() -> None:
    house = House()
    house.visitors.limits = VisitorLimits(words_bytes_max=1000)
    house.came(1, 2, 3, port="control")
    for key, session, told in ((1, b"s", 600), (2, b"t", 900), (3, b"u", 300)):
        house.prove(key, session, room=100)
        house.visitors.tell(session, told)
    house.visitors.tell(b"nobody", 5000)

    def look(**read: int) -> str:
        moved = {int(key.removeprefix("k")): BytesMoved(0, count) for key, count in read.items()}
        return " ".join(str(one.key) for one in house.visitors.look(moved, 1.0))

    assert look(k1=100, k2=450, k3=250) == "", "those who read in time"
    assert look(k1=50, k2=450, k3=300, k9=5) == ""
    assert look(k1=0, k2=300, k3=300) == "1"
    house.visitors.tell(b"u", 101)
    assert look(k2=0, k3=300) == "2"
    house.came(4, 5, port="control")
    house.came(6)
    for key in (4, 5, 6):
        house.prove(key, b"%d" % key, room=5000)
    assert house.look(2.0, k4=498, k6=5000) == ""
    assert house.look(2.0, k4=498, k5=500) == "5", "nor may they say what nobody has read"
    house.visitors.left(3)
    house.visitors.left(4)
    assert house.visitors._words == 0


def test_what_sessions_hold_beyond_the_usual_is_bounded_for_all_together() -> None:
    house = House()
    house.visitors.limits = VisitorLimits(beyond_bytes_max=1000)
    house.came(1, 2, 3)
    for key in (1, 2, 3):
        house.prove(key, b"%d" % key, room=1000)
    assert house.look(1.0, k1=500, k2=500, k3=500) == ""
    assert house.visitors.is_calm()
    assert house.look(2.0, k1=900, k2=900, k3=700) == ""
    assert not house.visitors.is_calm()
    assert house.look(3.0, k1=900, k2=901, k3=700) == "2"
    assert house.look(4.0, k1=100, k3=700) == ""
    house.visitors.left(3)
    assert house.visitors.is_calm()


@pytest.mark.parametrize(
    ("strangers", "mebibytes"), [(0, 40), (800, 40), (1024, 36), (2048, 8), (3000, 0)]
)
def test_many_strangers_may_hold_less_beside_their_connections(
    strangers: int, mebibytes: int
) -> None:
    """All of them together below 64 MiB."""
    assert VisitorLimits().stranger_bytes(strangers) == mebibytes * MB


def test_a_crowd_holds_less() -> None:
    house = House()
    house.visitors.limits = replace(LIMITS, together_bytes_max=9 * (28 << 10) + 500)
    house.came(*range(1, 10))
    assert house.look(**{f"k{key}": 55 for key in range(1, 10)}) == ""
    assert house.look(now=1.0, **{f"k{key}": 56 for key in range(1, 10)}) != ""


def test_some_places_are_never_one_addresss() -> None:
    house = House()
    house.visitors.limits = replace(LIMITS, strangers_max=128)
    assert house.came(*range(1, 127)) == ""
    assert house.came(127, now=1.9) == "127", "of its own kind, all of which are within their time"
    assert house.came(128, now=2.0) == "1"
    assert house.came(129, 130, address="b", now=2.0) == ""
    assert house.visitors.strangers == 128


def test_guests_are_looked_at_a_few_at_a_time_while_memory_does_not_grow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tiers.core.hop.visitors._GUESTS_AT_ONCE", 4)
    monkeypatch.setattr("tiers.core.hop.visitors._GUESTS_AT_REST", 1)
    house = House()
    for key in range(1, 9):
        house.came(key)
        house.prove(key, b"%d" % key)

    def looked(memory_mb: int) -> int:
        house.visitors.notice(memory_mb * MB)
        keys = house.visitors.to_look_at()
        house.look()
        return len(keys)

    assert [looked(mb) for mb in (50, 58, 50)] == [1, 1, 1]
    assert [looked(mb) for mb in (59, 60, 61, 62)] == [4, 4, 4, 1], "all of them, once it has grown"
    assert [looked(mb) for mb in (30, 39)] == [1, 4], "grown from the least that it was since"
    house.look(k1=101)
    assert house.visitors.get(1) is None, "whenever it is looked at it goes"
