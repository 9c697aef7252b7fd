"""What ends a command early: a user's mistake, or a wish to stop. The command line prints both as a sentence."""

import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Bad input. Its message names the thing, what was found, what is allowed and what to do."""


class Stopped(BaseException):
    """The program was asked to stop. Like KeyboardInterrupt no Exception, so that nobody catches it by chance."""


def nearest(name: str, allowed: list[str]) -> str:
    """Return " Did you mean 'x'?" for the allowed name closest to `name`, or an empty string."""
    from difflib import get_close_matches

    close = get_close_matches(name, allowed, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def some(parts: Iterable[str], most: int = 5) -> str:
    """Return the first of many, and how many more there are: "a, b and 3 more"."""
    parts = list(parts)
    more = f" and {len(parts) - most} more" if len(parts) > most else ""
    return ", ".join(parts[:most]) + more


@contextmanager
def damage_is_a_mistake(what: str, advice: str) -> Iterator[None]:
    """Read a file from outside: whatever a parser raises on damaged contents becomes one sentence, a UserError.

    What the machine did, and not the contents (an OSError with a number, such as EIO or EACCES), passes as it is: it
    says nothing about the file. So do UserErrors, and wishes to stop.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # parsers of damaged bytes raise nearly every kind
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"{what}: damaged, or not what its name says ({reason(error)}); {advice}") from None


def reason(error: BaseException, most: int = 200) -> str:
    """Return what an exception says, on one line and not too long; its kind where it says nothing."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    first = (str(error).strip().splitlines() or [""])[0].strip()
    text = f"no {first}" if isinstance(error, KeyError) else first or type(error).__name__
    return text if len(text) <= most else text[:most] + "..."


def printable(text: str) -> str:
    """Return a text that a terminal shows and does not obey: control and direction characters are spelled out.

    Names of files and classes are strangers' text; line breaks and tabs of our own messages stay.
    """
    return "".join(_spelled(c) if _is_control(c) else c for c in text)


def _is_control(character: str) -> bool:
    return character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode()
