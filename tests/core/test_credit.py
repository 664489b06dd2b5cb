"""Credit of many senders out of one memory: bounded in all, fair, and for everyone in turn."""

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest

from tests.core.batches import a_record
from tests.core.receiving import EDGE, ME, End, session
from tiers.core.hop.credit import IDLE_S, SLACK_BYTES, TURN_BYTES, Balance, Credits
from tiers.core.hop.hosting import ReceiverLimits
from tiers.core.hop.messages import Ack, Bundle, Carried, Ping, Pong, Welcome
from tiers.core.quota import SHARE, may_take

MIB = 1 << 20
AMPLE = 1 << 40


def ample(_: str) -> int:
    return AMPLE


@pytest.mark.parametrize("others", [0, 1, 3, 9])
def test_each_of_many_gets_the_same_and_something_is_left(others: int) -> None:
    room, held = 1_000_000, Counter[int]()
    for _ in range(150):
        for one in range(others + 1):
            held[one] -= held[one] // 5  # it flows
            held[one] += may_take(room - held.total(), held[one])
    share = room * SHARE // (1 + SHARE * (others + 1))
    assert all(share // 2 < got < 2 * share for got in held.values())
    assert may_take(room - held.total(), 0) > 0


def test_who_holds_its_part_takes_nothing_more() -> None:
    assert may_take(100, 400) == may_take(0, 0) == may_take(-5, 0) == 0


class Crowd:
    """Senders that send whatever they may, and a disk."""

    def __init__(self, count: int, *, memory: int = 64 * MIB, window: int = 16 * MIB) -> None:
        self.credits = Credits(memory, window)
        self.now = 0.0
        self.all = [Balance(f"edge-{number}") for number in range(count)]
        self.writing: list[tuple[Balance, int]] = []
        self.got = Counter[str]()
        self.lost = 0  # sessions
        for balance in self.all:
            self.credits.begin(balance, AMPLE, 0.0)

    def check(self) -> None:
        assert self.credits.held == sum(one.held for one in self.all)
        assert self.credits.free == max(0, self.credits.memory_bytes_max - self.credits.held)
        assert self.credits.pending == sum(one.pending for one in self.all)

    def send(self, balance: Balance, batch: int) -> None:
        """All that its credit allows; the last batch may overshoot it."""
        while balance.credit:
            self.credits.came(balance, batch, self.now)
            self.credits.kept(balance, batch)
            self.writing.append((balance, batch))

    def commit(self, most: int = 1 << 60) -> None:
        done, self.writing = self.writing[:most], self.writing[most:]
        for balance, size in done:
            self.credits.stored(balance, size)
            self.got[balance.agent] += size
        for balance, _ in done:
            self.credits.grant(balance, AMPLE, self.now)

    def look(self) -> None:
        """What a tick does, 50 ms later."""
        self.now += 0.05
        for _ in self.credits.turns(ample, self.now):
            pass
        for balance in self.credits.idle(self.now):
            self.lost += 1
            self.credits.closed(balance)
            self.credits.begin(balance, AMPLE, self.now)

    def ask(self, balance: Balance, wanted: int = 16 * MIB) -> None:
        """What a PING does where so much waits."""
        self.credits.grant(balance, AMPLE, self.now, wanted)


@pytest.mark.parametrize("batch", [70_000, MIB])
@pytest.mark.parametrize("count", [1, 5, 100, 1000])
def test_a_memory_bounds_what_all_may_send_and_each_gets_its_turn(count: int, batch: int) -> None:
    crowd = Crowd(count)
    for balance in crowd.all:
        crowd.ask(balance)
    memory = crowd.credits.memory_bytes_max
    for _ in range(40):
        for balance in crowd.all:
            crowd.send(balance, batch)
            assert crowd.credits.held <= memory + 65 * batch
        crowd.commit()
        crowd.look()
        for balance in crowd.all:
            if not balance.credit:
                crowd.ask(balance, batch)
        crowd.check()
    assert len(crowd.got) == count, "nobody goes without"
    if count > 1:
        most, least = max(crowd.got.values()), min(crowd.got.values())
        assert most <= 2 * least + 20 * max(batch, TURN_BYTES)


def test_very_many_that_send_little_have_it_taken_and_keep_their_sessions() -> None:
    crowd = Crowd(1000)
    for step in range(300):
        for balance in crowd.all[step % 10 :: 10]:
            if not balance.credit:
                crowd.ask(balance, 1000)
        crowd.look()
        if step == 100:
            crowd.lost = 0
            crowd.got.clear()
        for balance in crowd.all[step % 10 :: 10]:
            if balance.credit:
                crowd.credits.came(balance, 1000, crowd.now)
                crowd.credits.kept(balance, 1000)
                crowd.writing.append((balance, 1000))
        crowd.commit()
        crowd.check()
    assert crowd.lost == 0
    assert set(crowd.got.values()) == {20 * 1000}, "each has credit whenever it has a batch"
    assert crowd.credits.held <= crowd.credits.memory_bytes_max


def test_in_a_crowd_no_more_fresh_ones_have_credit_than_turns_are_in_their_half() -> None:
    """Whatever they say: the first batch of each may be as large as any."""
    crowd = Crowd(1000)
    served = set[str]()
    for _ in range(300):
        for balance in crowd.all:
            if not balance.credit:
                crowd.ask(balance, 1)
        crowd.look()
        holders = {one.agent for one in crowd.all if one.credit}
        assert len(holders) <= 128
        served |= holders
    assert len(served) == 1000, "each had a turn"


def test_in_a_crowd_what_waits_at_a_sender_has_credit_whole_or_not_yet() -> None:
    crowd = Crowd(200)
    for balance in crowd.all:
        crowd.credits.came(balance, 1000, 0.0)
        crowd.credits.kept(balance, 1000)
        crowd.writing.append((balance, 1000))
    crowd.commit()
    for balance in crowd.all:
        if not balance.credit:
            crowd.ask(balance, MIB)
    for balance in crowd.all:
        crowd.send(balance, MIB)
    assert 32 * MIB < crowd.credits.held <= crowd.credits.memory_bytes_max


def test_one_alone_has_its_whole_window() -> None:
    crowd = Crowd(1)
    for _ in range(12):
        crowd.send(crowd.all[0], 100_000)
        crowd.commit()
    assert crowd.all[0].credit == 16 * MIB


def test_idle_senders_leave_the_memory_to_those_that_send() -> None:
    crowd = Crowd(150)
    assert sum(1 for one in crowd.all if one.credit) > 30, "some may begin at once"
    busy = crowd.all[7]
    for _ in range(12):
        crowd.send(busy, 100_000)
        crowd.commit()
    assert busy.credit > 8 * MIB
    assert not list(crowd.credits.idle(1e9)), "nobody waits: nobody loses its session"


@pytest.mark.parametrize("trickle", [False, True])
def test_credit_that_is_not_used_comes_back_to_those_who_wait(trickle: bool) -> None:
    crowd = Crowd(70)
    for balance in crowd.all:
        crowd.ask(balance)
    greedy = [one for one in crowd.all if one.credit]
    late = crowd.all[-1]
    assert not late.credit, "there is not enough left for a turn"
    waited = 0
    while not (late.credit or late.received):
        if trickle:  # they send now and then, and hold on to nearly all of it
            for balance in greedy:
                crowd.credits.came(balance, 100, crowd.now)
                crowd.credits.kept(balance, 100)
                crowd.writing.append((balance, 100))
            crowd.commit()
        crowd.look()
        waited += 1
        assert waited < 3 * IDLE_S / 0.05, "it is starved"
    crowd.check()


class Flood(Crowd):
    """Very many that ask for credit, and do not use it, beside one that sends."""

    def __init__(self, count: int) -> None:
        super().__init__(1)
        self.honest = self.all[0]
        self.send(self.honest, 100_000)
        self.commit()
        self.all += [Balance(f"fake-{number}") for number in range(count)]
        for balance in self.all[1:]:
            self.credits.begin(balance, AMPLE, 0.0)

    def goes_on(self) -> None:
        for balance in self.all[1:]:
            self.ask(balance)
        self.send(self.honest, 100_000)
        self.commit()
        self.look()
        self.check()
        fresh = [one.credit for one in self.all if one.fresh]
        assert sum(fresh) <= self.credits.memory_bytes_max // 2


def test_those_of_whom_nothing_was_stored_take_nothing_from_one_that_sends() -> None:
    flood = Flood(400)
    for turn in range(25):
        before = flood.got["edge-0"]
        flood.goes_on()
        assert flood.got["edge-0"] - before >= min(turn, 5) * MIB
    assert flood.credits.waiting() > 200
    # Its session ends, and the next is one of an agent that is known.
    flood.credits.closed(flood.honest)
    flood.all[0] = flood.honest = Balance("edge-0")
    flood.credits.begin(flood.honest, AMPLE, flood.now)
    flood.ask(flood.honest)
    for _ in range(12):
        flood.goes_on()
    assert flood.honest.credit == 16 * MIB


def test_one_that_is_new_has_its_turn_among_very_many() -> None:
    flood = Flood(300)
    new = Balance("edge-new")
    flood.all.append(new)
    flood.credits.begin(new, AMPLE, 0.0)
    waited = 0
    while not new.credit:
        flood.goes_on()
        waited += 1
        assert waited < 300 / 128 * 2 * IDLE_S / 0.05
    flood.send(new, 100_000)
    flood.commit()
    flood.goes_on()
    assert not new.fresh
    assert new.credit, "from now on it waits for none of them"


def test_who_is_stored_while_it_waits_for_its_turn_changes_the_line() -> None:
    flood = Flood(100)
    flood.goes_on()
    one = flood.all[-1]
    assert not one.credit
    flood.credits.kept(one, 10)
    flood.credits.stored(one, 10)
    flood.check()
    flood.look()
    assert one.credit


def test_known_ones_that_hold_credit_for_nothing_give_it_back_to_fresh_ones() -> None:
    crowd = Crowd(8, memory=16 * MIB, window=2 * MIB)
    for _ in range(3):
        for balance in crowd.all:
            crowd.send(balance, 100_000)
            crowd.commit()
    crowd.credits.begin(new := Balance("edge-new"), AMPLE, crowd.now)
    crowd.ask(new)
    crowd.all.append(new)
    assert not new.credit, "the others hold all"
    for _ in range(int(2 * IDLE_S / 0.05)):
        crowd.look()
        crowd.check()
    assert new.credit


def test_agents_that_are_known_are_so_many_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiers.core.hop.credit._AGENTS_MAX", 2)
    crowd = Crowd(3)
    for balance in crowd.all:
        crowd.send(balance, 1000)
        crowd.commit()
    again = [Balance(one.agent) for one in crowd.all]
    for balance in again:
        crowd.credits.begin(balance, AMPLE, crowd.now)
    assert [one.fresh for one in again] == [True, False, False]


def test_who_has_no_room_in_the_channel_holds_up_nobody() -> None:
    crowd = Crowd(3)
    full, other = crowd.all[0], crowd.all[1]
    crowd.send(full, MIB)
    crowd.commit(0)
    crowd.writing.clear()
    crowd.credits.stored(full, full.pending)
    for _ in range(5):
        crowd.credits.grant(full, 0, crowd.now)
        assert not list(crowd.credits.turns(lambda agent: 0, crowd.now))
    assert not full.credit
    for _ in range(12):
        crowd.send(other, 100_000)
        crowd.commit()
    assert other.credit == 16 * MIB
    assert list(crowd.credits.turns(ample, crowd.now)) == [full], "once there is room again"
    crowd.check()


@pytest.mark.parametrize("seed", range(20))
def test_accounts_are_right_whatever_comes(seed: int) -> None:
    random = Random(seed)
    crowd = Crowd(8, memory=4 * MIB, window=random.choice([10_000, MIB, 16 * MIB]))
    for _ in range(150):
        balance = random.choice(crowd.all)
        match random.randrange(6):
            case 0:
                crowd.send(balance, random.choice([100, 5000, 300_000, 2 * MIB]))
            case 1:
                crowd.credits.came(
                    balance, random.randrange(50_000), crowd.now
                )  # rejected, or known
            case 2:
                crowd.commit(random.randrange(20))
            case 3:
                crowd.credits.closed(balance)
                crowd.credits.begin(balance, AMPLE, crowd.now)
            case 4:
                crowd.ask(balance)
            case _:
                crowd.look()
        crowd.check()
    crowd.commit()
    for _ in range(30):
        crowd.look()
        for balance in crowd.all:
            crowd.ask(balance)
            crowd.send(balance, 100_000)
        crowd.commit()
    assert len([1 for got in crowd.got.values() if got]) == len(crowd.all)


# -- in a receiver -------------------------------------------------------------------------------


def crowded_end(count: int, memory: int) -> End:
    end = End(free=1 << 40)
    limits = ReceiverLimits(16 * MIB, 32 * MIB, memory)
    end.receiver.limits = limits
    end.receiver.hosting.credits = Credits(memory, limits.window_bytes_max)
    for number in range(1, count + 1):
        end.hello(number, f"edge-{number}", number.to_bytes(16, "big"))
    return end


def test_what_many_senders_may_send_while_the_disk_is_slow_is_bounded() -> None:
    end = crowded_end(100, 4 * MIB)
    limit = Counter[int]()
    sent = Counter[int]()
    body = bytes(50_000)

    def take(messages: Sequence[object]) -> None:
        for message in messages:
            if isinstance(message, Ack | Pong | Welcome):
                number = int.from_bytes(message.session, "big")
                limit[number] = max(limit[number], message.limit)

    take([message for _, message in end.said])
    stored = Counter[int]()
    seq = 0
    for _ in range(90):
        for number in range(1, 101):
            while limit[number] > sent[number]:
                seq += 1
                record = a_record(seq, body)
                sent[number] += len(record)
                channel = number.to_bytes(16, "big")
                carried = [Carried(record, False, ())]
                bundle = Bundle(session(number), channel, ME.channel, seq, carried)
                end.do(end.receiver.received(bundle, end.seen, end.now, end.now_ms))
                assert end.receiver.pending_bytes() <= 4 * MIB + 32 * 51_000
            take(end.hear(Ping(session(number), 1, 51_000)))
        for batch in end.writing[:40]:  # the disk takes 2 MB and no more in that time
            stored[batch.envelope.seq] += 1
        done, end.writing = end.writing[:40], end.writing[40:]
        contents = [batch.content for batch in done]
        end.disk.update(contents)
        take(end.do(end.receiver.stored(contents, end.seen)))
        take(end.tick(0.05))
    assert all(sent[number] for number in range(1, 101)), "each had its turn"
    assert sum(stored.values()) == 90 * 40, "and the disk was never without work"


def test_bytes_of_what_was_rejected_or_known_come_back_as_credit() -> None:
    end = End(free=1 << 40)
    end.hello()
    good = a_record(1, bytes(900))
    bad = bytearray(good)
    bad[-1] ^= 1
    end.bundle([good])
    end.commit()
    for record in [bytes(bad), good] * 20:  # each time the whole of its window
        end.bundle([record] * 12)
        assert end.credit(), "what was not kept is not held against its sender"
    assert end.receiver.pending_bytes() == 0
    assert end.receiver.senders["edge-1"].channel == EDGE


def test_a_ping_of_who_wants_nothing_takes_no_place_in_line() -> None:
    end = crowded_end(100, MIB)
    asked = [number for number in range(1, 101) if not end.credit(f"edge-{number}")]
    assert asked, "not all can hold credit"
    for number in asked:
        end.hear(Ping(session(number), 1, 0))
    assert end.receiver.credits.waiting() == 0
    end.hear(Ping(session(asked[0]), 1, 500))
    assert end.receiver.credits.waiting() == 1


def test_one_without_room_that_sends_on_gets_no_more_in_by_a_new_session() -> None:
    end = End(free=1 << 40)
    end.receiver.limits = ReceiverLimits(16 * MIB, 32 * MIB)
    end.receiver.hosting.room_of = {"edge-1": 0}.__getitem__
    stored = 0
    for number in range(1, 40):
        end.names[:] = [session(number)]
        end.hello(number)
        for seq in range(8):
            end.bundle([a_record(100 * number + seq, bytes(200_000))], number)
        stored = sum(len(batch.record) for batch in end.writing)
        if number > 3:
            assert not end.receiver.senders, "it is shown the door"
    assert stored < 2 * MIB
    end.receiver.hosting.room_of = {"edge-1": AMPLE}.__getitem__
    end.names[:] = [session(99)]
    end.hello(99)
    assert end.credit() > 0, "once it has room again it is as any other"
    end.bundle([a_record(99_999, bytes(1000))], 99)
    assert end.receiver.senders["edge-1"].balance.debt == 0


@pytest.mark.parametrize(("left", "counts"), [(0, True), (512 << 10, True), (513 << 10, False)])
def test_who_has_used_half_of_its_credit_has_used_it(left: int, counts: bool) -> None:
    """Else it would lose its session to others that wait, as one that holds credit for nothing."""
    crowd = Crowd(1, window=MIB)
    balance = crowd.all[0]
    assert balance.credit == MIB
    crowd.now = 7.0
    crowd.credits.came(balance, MIB - left, crowd.now)
    crowd.credits.kept(balance, MIB - left)
    crowd.credits.stored(balance, MIB - left)
    crowd.ask(balance)
    assert balance.credit == MIB
    assert balance.raised_s == (7.0 if counts else 0.0)


def test_what_is_granted_when_it_is_asked_for_counts_from_then_on() -> None:
    end = End(free=1 << 40)
    end.receiver.hosting.room_of = {"edge-1": 0}.__getitem__
    end.hello()
    end.receiver.hosting.room_of = {"edge-1": AMPLE}.__getitem__
    end.now += 5.0
    end.hear(Ping(session(1), 1, 500))
    assert end.credit() > 0
    assert end.receiver.senders["edge-1"].balance.raised_s == 5.0


def test_a_sender_holds_at_most_twice_of_what_it_has_used() -> None:
    crowd = Crowd(1)
    balance = crowd.all[0]
    held = []
    for _ in range(4):
        crowd.send(balance, balance.credit)
        crowd.commit()
        held.append(balance.credit)
    assert held == [2 * MIB, 6 * MIB, 16 * MIB, 16 * MIB]


KIB = 1 << 10


class Held:
    """Fresh senders and known ones that hold a turn each, of 8 turns in all and 4 for the fresh,
    have used so much of it, and keep others waiting."""

    def __init__(self, fresh: int, known: int, used: int, window: int = MIB) -> None:
        self.credits = Credits(8 * MIB, window)
        self.fresh = [self._one(f"fresh-{n}", False) for n in range(fresh)]
        self.known = [self._one(f"known-{n}", True) for n in range(known)]
        for one in (*self.fresh, *self.known):
            assert one.credit == one.limit == MIB
            self.credits.came(one, used, 0.0)

    def _one(self, agent: str, known: bool) -> Balance:
        self.credits.begin(balance := Balance(agent), 0, 0.0)
        if known:
            self.credits.kept(balance, 1)
            self.credits.stored(balance, 1)
        self.credits.grant(balance, AMPLE, 0.0)
        return balance

    def wait(self, fresh: int, known: int) -> list[Balance]:
        """So many others wait."""
        late = [self._one(f"late-{number}", number >= fresh) for number in range(fresh + known)]
        assert self.credits.waiting() == fresh + known
        return late

    def lost(self) -> tuple[int, int]:
        """How many of them lose their sessions, as others wait."""
        assert not list(self.credits.idle(IDLE_S - 0.01)), "they had no time to use it"
        idle = list(self.credits.idle(IDLE_S))
        lost = (
            [one for one in idle if one in self.fresh],
            [one for one in idle if one in self.known],
        )
        assert lost == (self.fresh[: len(lost[0])], self.known[: len(lost[1])])
        return len(lost[0]), len(lost[1])


@pytest.mark.parametrize(
    ("fresh", "known", "used", "waiting", "lost"),
    [
        (4, 0, 0, (1, 0), (1, 0)),
        (4, 0, 250 * KIB, (1, 0), (1, 0)),  # a little of their half is free
        (4, 0, 250 * KIB, (2, 0), (2, 0)),
        (4, 0, 0, (9, 0), (4, 0)),
        (0, 8, 0, (0, 1), (0, 1)),
        (0, 8, 100 * KIB, (0, 1), (0, 1)),
        (0, 8, 100 * KIB, (0, 2), (0, 2)),
        (0, 8, 0, (1, 0), (0, 1)),
        (0, 8, 0, (2, 3), (0, 5)),
        (4, 4, 0, (1, 0), (1, 0)),
        (4, 4, 0, (0, 1), (1, 0)),
        (4, 4, 0, (0, 6), (4, 2)),
        (1, 7, 0, (1, 0), (1, 0)),
        (1, 7, 0, (1, 1), (1, 1)),
        (4, 4, 0, (0, 0), (0, 0)),
    ],
)
def test_no_more_lose_their_sessions_than_others_wait_for(
    fresh: int, known: int, used: int, waiting: tuple[int, int], lost: tuple[int, int]
) -> None:
    held = Held(fresh, known, used)
    held.wait(*waiting)
    assert held.lost() == lost


@pytest.mark.parametrize("known", [False, True])
def test_who_has_used_all_of_its_credit_does_not_lose_its_session(known: bool) -> None:
    held = Held(0 if known else 4, 8 if known else 0, 0)
    first, second = (held.known or held.fresh)[:2]
    held.credits.came(first, MIB, 0.0)
    held.credits.kept(first, MIB)
    if not known:
        assert held._one("fresh, instead of it", False).credit == MIB
    held.wait(int(not known), int(known))
    assert list(held.credits.idle(IDLE_S)) == [second]


def test_who_is_fresh_no_more_has_one_place_among_the_others() -> None:
    held = Held(4, 4, 0)
    proven, late = held.fresh[0], held.wait(9, 9)[0]
    for one in (proven, late):
        held.credits.kept(one, 1)
        held.credits.stored(one, 1)
    assert held.credits.waiting() == 18
    idle = list(held.credits.idle(IDLE_S))
    assert idle == [*held.fresh[1:], *held.known, proven]


def test_whose_session_is_over_neither_waits_nor_holds_anything() -> None:
    held = Held(4, 4, 0)
    late = held.wait(2, 2)
    for one in (held.fresh[0], held.known[0], late[0], late[2]):
        held.credits.closed(one)
        assert one.credit == 0
    assert held.credits.waiting() == 2
    assert (held.credits.held, held.credits.free) == (6 * MIB, 2 * MIB)
    assert list(held.credits.turns(ample, 0.0)) == [late[3], late[1]]
    held.wait(9, 9)
    idle = list(held.credits.idle(IDLE_S))
    assert idle == [*held.fresh[1:], late[1], *held.known[1:], late[3]]


@pytest.mark.parametrize(
    ("pending", "credit", "others", "room", "granted", "waits"),
    [
        (0, 0, 0, AMPLE, 4 * MIB, False),
        (0, 0, 4 * MIB, AMPLE, 4 * MIB, False),
        (0, 0, 5 * MIB, AMPLE, 3 * MIB, False),  # of the memory that is left
        (0, 0, 7 * MIB, AMPLE, MIB, False),
        (0, 0, 7 * MIB + 1, AMPLE, 0, True),  # less than a turn is none
        (0, 0, 7 * MIB + 1, MIB - 1, MIB - 1, False),  # unless it is all there is room for
        (0, 0, 7 * MIB + 2, MIB - 1, 0, True),
        (0, MIB, 0, AMPLE, 4 * MIB, False),
        (0, MIB, 0, MIB - 1, MIB, False),  # what was told cannot be taken back
        (0, MIB, 6 * MIB, AMPLE, 2 * MIB, False),
        (MIB, 0, 0, AMPLE, 3 * MIB, False),  # what is not on disk counts as held
        (MIB, MIB, 0, AMPLE, 3 * MIB, False),
        (3 * MIB, 0, 0, AMPLE, MIB, False),
        (3 * MIB + 1, 0, 0, AMPLE, 0, False),  # it is granted once that is on disk
        (3 * MIB + 1, 0, 0, MIB - 1, MIB - 1, False),
        (3 * MIB + 1, 0, 0, 500 * KIB, 500 * KIB, False),
        (4 * MIB, 0, 0, AMPLE, 0, False),
    ],
)
def test_what_is_granted(
    pending: int, credit: int, others: int, room: int, granted: int, waits: bool
) -> None:
    """To one that has used much, of 8 MiB in all and 4 for one sender."""
    credits = Credits(8 * MIB, 4 * MIB)
    credits.kept(Balance("other"), others)
    credits.begin(balance := Balance("edge-1"), 0, 0.0)
    credits.kept(balance, 9 * MIB)
    credits.stored(balance, 9 * MIB)
    credits.kept(balance, pending)
    if credit:
        credits.grant(balance, credit, 0.0)
        assert balance.credit == credit
    credits.grant(balance, room, 0.0)
    assert (balance.credit, credits.waiting()) == (granted, int(waits))


@pytest.mark.parametrize(("held", "credit"), [(0, MIB), (4 * MIB, MIB), (4 * MIB + 1, 0)])
def test_who_begins_gets_a_turn_unless_half_is_held(held: int, credit: int) -> None:
    credits = Credits(8 * MIB, 4 * MIB)
    credits.kept(Balance("other"), held)
    credits.begin(balance := Balance("edge-1"), AMPLE, 0.0)
    assert balance.credit == credit


def test_while_others_wait_who_has_credit_gets_no_more() -> None:
    held = Held(0, 4, 0, window=4 * MIB)
    one = held.known[0]
    one.used = 9 * MIB
    held.credits.begin(other := Balance("other"), 0, 0.0)
    held.credits.kept(other, 7 * MIB)
    held.wait(0, 1)
    held.credits.stored(other, 7 * MIB)
    held.credits.grant(one, AMPLE, 0.0)
    assert one.credit == MIB
    assert len(list(held.credits.turns(ample, 0.0))) == 1
    held.credits.grant(one, AMPLE, 0.0)
    assert one.credit == 2 * MIB


def test_who_had_no_room_has_its_place_and_is_served_there_once() -> None:
    held = Held(0, 1, 0)
    one = held.known[0]
    held.credits.came(one, MIB, 0.0)
    for room in (0, 0, AMPLE, AMPLE):
        held.credits.grant(one, room, 0.0)
        assert one.credit == 0
    assert list(held.credits.turns(ample, 0.0)) == [one]
    assert one.credit == MIB
    assert not list(held.credits.turns(ample, 0.0))


def test_who_had_no_room_and_is_gone_gets_no_turn() -> None:
    held = Held(0, 4, 0)
    for one in held.known[:2]:
        held.credits.came(one, MIB, 0.0)
        held.credits.grant(one, 0, 0.0)
    held.credits.closed(held.known[0])
    assert list(held.credits.turns(ample, 0.0)) == [held.known[1]]


def test_debts_are_so_many_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiers.core.hop.credit._AGENTS_MAX", 2)
    held = Held(0, 3, MIB + 7)
    for one in held.known:
        held.credits.closed(one)
    again = [Balance(one.agent) for one in held.known]
    for one in again:
        held.credits.begin(one, 0, 0.0)
    assert [one.debt for one in again] == [0, 7, 7]


def test_known_and_fresh_ones_have_their_turns_by_turns() -> None:
    held = Held(4, 4, 0)
    held.wait(2, 4)
    for one in (*held.fresh, *held.known):
        held.credits.closed(one)
    served = [one.agent for one in held.credits.turns(ample, 0.0)]
    assert served == [f"late-{number}" for number in (2, 0, 3, 1, 4, 5)]


def test_who_is_silent_takes_no_share_from_one_that_sends() -> None:
    crowd = Crowd(2, memory=16 * MIB)
    busy, silent = crowd.all
    crowd.send(busy, 100_000)
    crowd.credits.came(silent, 100, crowd.now)
    shares = []
    for _ in range(int(2 * IDLE_S / 0.05)):
        crowd.send(busy, 100_000)
        crowd.commit()
        crowd.look()
        shares.append(busy.credit)
    assert shares[10] <= 8 * MIB < shares[-1]


@pytest.mark.parametrize(("silent_s", "share"), [(IDLE_S - 0.01, 4 * MIB), (IDLE_S, 8 * MIB)])
def test_a_share_ends_with_the_time_of_silence(silent_s: float, share: int) -> None:
    credits = Credits(8 * MIB, 8 * MIB)
    busy, silent = Balance("busy"), Balance("silent")
    for one in (silent, busy):
        credits.begin(one, 0, 0.0)
        credits.kept(one, 9 * MIB)
        credits.stored(one, 9 * MIB)
    credits.came(silent, 0, 0.0)
    credits.came(busy, 0, silent_s)
    assert not list(credits.turns(ample, silent_s))
    credits.grant(busy, AMPLE, silent_s)
    assert busy.credit == share


@pytest.mark.parametrize("slack", [100, 2 * SLACK_BYTES])
@pytest.mark.parametrize("debt", [0, 50])
def test_no_honest_sender_sends_more_than_its_credit_and_a_batch(slack: int, debt: int) -> None:
    credits = Credits(8 * MIB, MIB)
    credits.begin(balance := Balance("edge-1"), AMPLE, 0.0)
    balance.debt = debt
    credits.came(balance, MIB + min(slack, SLACK_BYTES) - debt, 0.0)
    assert not credits.is_beyond(balance, slack)
    credits.came(balance, 1, 0.0)
    assert credits.is_beyond(balance, slack)


def test_what_was_sent_beyond_the_credit_is_a_debt_until_there_is_room() -> None:
    credits = Credits(8 * MIB, MIB)
    credits.begin(balance := Balance("edge-1"), AMPLE, 0.0)
    assert (balance.received, balance.debt) == (0, 0)
    credits.came(balance, MIB + 70, 0.0)
    for _ in range(3):  # sessions, without room
        credits.closed(balance)
        credits.begin(balance := Balance("edge-1"), 0, 0.0)
        assert balance.debt == 70
    credits.came(balance, 5, 0.0)
    credits.closed(balance)
    credits.begin(balance := Balance("edge-1"), 0, 0.0)
    assert balance.debt == 75
    credits.grant(balance, AMPLE, 0.0)
    assert (balance.credit, balance.debt) == (MIB, 0)
    credits.closed(balance)
    credits.begin(balance := Balance("edge-1"), 0, 0.0)
    assert balance.debt == 0, "it came back once, and is not claimed again"
