"""Progress of long calls: the type of ``progress=``, and a line with rate and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from relspace.errors import InvalidTypeError

#: Called with ``(done, total, text)``: ``done`` of ``total`` parts of the step that the text names
#: are finished. A total of 0 means that the step isn't counted.
Listener = Callable[[int, int, str], None]
#: What ``progress=`` takes: a listener, or True for a line on stderr.
Progress = Listener | bool | None

# A rate over less time says little.
_SECONDS_OF_RATE = 1.0
_SECONDS_BETWEEN_LINES = 5.0
_SHARE_OF_STEP = 100
# On a terminal: back to the start of the line, and clear it.
_CLEAR = "\r\x1b[K"


def as_listener(progress: Progress) -> Listener:
    """Check ``progress=`` and return a listener that may be called at any rate.

    None and False give a listener that does nothing; True prints lines on stderr. A callable is
    called at most a hundred times for each step.

    Examples
    --------
    >>> tell = as_listener(lambda done, total, text: print(f"{text}: {done} of {total}"))
    >>> tell(1, 2, "Permutations")
    Permutations: 1 of 2
    """
    if progress is None or progress is False:
        return silent
    if progress is True:
        return ProgressLine()
    if not callable(progress):
        raise InvalidTypeError(
            f"progress is of type {type(progress).__name__}; it must be a callable that is told "
            "done, total and text, or True for a line on stderr."
        )
    is_ready = isinstance(progress, _Thinned | ProgressLine) or progress is silent
    return progress if is_ready else _Thinned(progress)


def silent(done: int, total: int, text: str) -> None:
    """Do nothing: the listener where none was given."""


def prefixed(tell: Listener, what: str) -> Listener:
    """Return a listener that puts a name before the text of each step."""
    if tell is silent:
        return tell
    return lambda done, total, text: tell(done, total, f"{what}: {text}")


def shifted(tell: Listener, before: int, total: int, text: str) -> Listener:
    """Return a listener of one part of a step, which comes after ``before`` of ``total``."""
    return tell if tell is silent else lambda done, *_: tell(before + done, total, text)


class StepClock:
    """Formats progress as one line, with the rate and the time left."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._text, self._start, self._first = "", 0.0, 0

    def line(self, done: int, total: int, text: str) -> str:
        """Return the line; time runs from the first call with this text."""
        now = self._clock()
        if text != self._text or done < self._first:
            self._text, self._start, self._first = text, now, done
        if not total:
            return text
        said, passed = f"{text}: {done} of {total}", now - self._start
        if passed < _SECONDS_OF_RATE or done == self._first:
            return said
        rate = (done - self._first) / passed
        left = "" if done >= total else f", {_duration((total - done) / rate)} left"
        return f"{said} ({rate:.3g} a second{left})"


class ProgressLine:
    """A listener that prints: on a terminal one line that changes, elsewhere some lines.

    ``end`` is what follows on a terminal when a step is done.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        end: str = "\n",
    ) -> None:
        self._stream, self._end = sys.stderr if stream is None else stream, end
        self._clock, self._steps = clock, StepClock(clock)
        self._text, self._printed = "", float("-inf")

    def __call__(self, done: int, total: int, text: str) -> None:
        """Print the progress, not more often than it can be read."""
        line, now, ended = self._steps.line(done, total, text), self._clock(), done >= total
        terminal = self._stream.isatty()
        pause = 0.1 if terminal else _SECONDS_BETWEEN_LINES
        if text == self._text and not ended and now - self._printed < pause:
            return
        self._text, self._printed = text, now
        start, end = (_CLEAR, self._end if ended else "") if terminal else ("", "\n")
        print(f"{start}{line}", end=end, file=self._stream, flush=True)

    def clear(self) -> None:
        """Remove the line from a terminal."""
        if self._stream.isatty():
            print(_CLEAR, end="", file=self._stream, flush=True)


class _Thinned:
    """A listener that is called once for each hundredth of a step."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._text, self._told = "", 0

    def __call__(self, done: int, total: int, text: str) -> None:
        goes_on = text == self._text and self._told < done < total
        if goes_on and (done - self._told) * _SHARE_OF_STEP < total:
            return
        self._text, self._told = text, done
        self._listener(done, total, text)


def _duration(seconds: float) -> str:
    """Say a time in its two largest units.

    >>> _duration(4.2), _duration(150), _duration(7300)
    ('4 s', '2 min 30 s', '2 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, of_hour = divmod(minutes, 60)
    if hours:
        return f"{hours} h {of_hour} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
