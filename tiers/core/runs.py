"""Sets of sequence numbers as runs: `[[1, 5], [7, 7]]` is 1 to 5 and 7, both ends included.

Sorted, apart from each other by at least one number, so two equal sets have equal runs.
"""

from collections.abc import Iterable

Runs = list[list[int]]


def runs_of(numbers: Iterable[int]) -> Runs:
    """The runs of any numbers, in any order, doubles counted once."""
    return union([[number, number] for number in numbers])


def union(*several: Iterable[Iterable[int]]) -> Runs:
    """What is in any of several runs, which may overlap and be in any order."""
    found: Runs = []
    for first, last in sorted((first, last) for runs in several for first, last in runs):
        if found and first <= found[-1][1] + 1:
            found[-1][1] = max(found[-1][1], last)
        else:
            found.append([first, last])
    return found


def minus(runs: Runs, *others: Runs) -> Runs:
    """What is in `runs` and in none of `others`."""
    found: Runs = []
    holes = union(*others)
    index = 0
    for first, last in runs:
        while index < len(holes) and holes[index][1] < first:
            index += 1
        # A hole may reach into the next run as well, so `index` stays and `at` goes on.
        at = index
        while at < len(holes) and holes[at][0] <= last:
            if first < holes[at][0]:
                found.append([first, holes[at][0] - 1])
            first = holes[at][1] + 1
            at += 1
        if first <= last:
            found.append([first, last])
    return found


def common(one: Runs, other: Runs) -> Runs:
    """What is in both."""
    return minus(one, minus(one, other))


def total(runs: Runs) -> int:
    """How many numbers these are."""
    return sum(last - first + 1 for first, last in runs)


def show(runs: Runs, most: int = 8) -> str:
    """`"1-5, 7"`; of many runs the first `most` and how many more there are."""
    words = [str(first) if first == last else f"{first}-{last}" for first, last in runs[:most]]
    more = len(runs) - most
    return ", ".join([*words, *([f"and {more} runs more"] if more > 0 else [])])
