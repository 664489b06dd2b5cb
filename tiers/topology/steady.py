"""When what a topology file says counts: once two looks in a row have seen the same.

A copy over a slow line, an editor that writes in place, a directory half synced: who looks then
sees half of a file, and half of a topology is often a right one. Content is compared, and not
times or inodes: a file that was replaced is another one however much it looks the same.
"""

from typing import TypeAlias

Content: TypeAlias = bytes | str  # of a file; or in words, why it cannot be read


class Steady:
    """`accepted` is what is acted on already; None: nothing is."""

    def __init__(self, accepted: Content | None = None) -> None:
        self._acted = accepted
        self._last = accepted

    def saw(self, content: Content) -> Content | None:
        """What is to be acted on now, after one more look."""
        again = content == self._last
        self._last = content
        if not again or content == self._acted:
            return None
        self._acted = content
        return content

    def forget(self) -> None:
        """What is there counts once more, changed or not."""
        self._acted = self._last = None


class Absence:
    """How long a file has left somebody out: the same file, and without a break."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._content: Content | None = None
        self._since_s: float | None = None

    def begin(self, content: Content) -> None:
        """This content leaves it out."""
        self._content, self._since_s = content, None

    def end(self) -> None:
        """It is back, or nothing is known of it."""
        self._content = None

    def lasts(self, content: Content, now_s: float) -> bool:
        """Whether it is long enough now; `content` is what this look has seen."""
        if self._content is None or content != self._content:
            self._since_s = None
            return False
        if self._since_s is None:
            self._since_s = now_s
        return now_s - self._since_s >= self._after_s
