"""Exceptions that end a command early: a user's mistake or a request to stop. Both are printed as a sentence."""

import json
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class UserError(Exception):
    """Bad input. The message names the thing, what was found, what is allowed and what to do."""

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows: the sentence alone, like the command line."""
        return [f"vistok: {printable(str(self))}"]


class Stopped(BaseException):
    """The program was asked to stop. Not an Exception, like KeyboardInterrupt, so nothing catches it by accident.

    `asked`: whether it was. Code in C or Rust that calls Python may turn the exception into one of its own, which then means this.
    """

    asked = False


def nearest(name: str, allowed: list[str]) -> str:
    """Return " Did you mean 'x'?" for the allowed name closest to `name`, or an empty string."""
    from difflib import get_close_matches

    close = get_close_matches(name, allowed, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun: "1 image", "3,000 images", "2 classes" (given as plural)."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def in_digits(value: float) -> str:
    """Return a number in about three digits, without an exponent: "0.125", "52.6", "1,000"."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def bounds(value: float, low: float | None, high: float | None, digits: int = 3) -> str:
    """Return what follows a score: " (4.1 to 5.2)"; empty without bounds.

    They are those of the bias-corrected score, which is said where the score itself lies outside of them: of few images it does.
    """
    if low is None or high is None:
        return ""
    outside = "" if low <= value <= high else "bias-corrected "
    return f" ({outside}{low:.{digits}g} to {high:.{digits}g})"


def are(count: int) -> str:
    """Return "is" for one, else "are"."""
    return "is" if count == 1 else "are"


def has_or_have(count: int) -> str:
    """Return "has" for one, else "have"."""
    return "has" if count == 1 else "have"


def some(parts: Iterable[str], most: int = 5) -> str:
    """Return the first few items and how many more there are: "a, b and 3 more"."""
    parts = list(parts)
    more = f" and {len(parts) - most} more" if len(parts) > most else ""
    return ", ".join(parts[:most]) + more


@contextmanager
def damage_is_a_mistake(what: str, advice: str) -> Iterator[None]:
    """Read an external file: whatever a parser raises on damaged contents becomes one sentence, a UserError.

    Failures of the machine rather than the contents (an OSError with an errno, such as EIO or EACCES) pass through
    unchanged: they say nothing about the file. So do UserErrors and requests to stop.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # on damaged bytes, parsers raise almost anything
        if Stopped.asked:
            raise Stopped("stopped") from error
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"{what}: damaged, or not what its name says ({reason(error)}); {advice}") from None


def reason(error: BaseException, most: int = 200) -> str:
    """Return an exception's message as one line, cut if too long; its type's name if the message is empty."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    first = (str(error).strip().splitlines() or [""])[0].strip()
    text = f"no {first}" if isinstance(error, KeyError) else first or type(error).__name__
    return text if len(text) <= most else text[:most] + "..."


def printable(text: str) -> str:
    """Return text that a terminal displays but does not act on: control and text-direction characters are escaped.

    File and class names are untrusted text; line breaks and tabs, which our own messages use, stay.
    """
    return "".join(_spelled(c) if _is_control(c) else c for c in text)


def in_utf8(value: T) -> T:
    """Return a value for a config, which is kept as UTF-8; raises UserError for text that is not, such as names from old disks."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{printable(str(value))}: not UTF-8, as all text in a config must be; give the file or folder another name, or a "
            "link to it: ln -s FOLDER photos"
        ) from None
    return value


def _is_control(character: str) -> bool:
    return character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode()
