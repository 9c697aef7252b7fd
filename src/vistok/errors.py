"""What ends a command early: a user's mistake, or a wish to stop. The command line prints both as a sentence."""


class UserError(Exception):
    """Bad input. Its message names the thing, what was found, what is allowed and what to do."""


class Stopped(BaseException):
    """The program was asked to stop. Like KeyboardInterrupt no Exception, so that nobody catches it by chance."""


def nearest(name: str, allowed: list[str]) -> str:
    """Return " Did you mean 'x'?" for the allowed name closest to `name`, or an empty string."""
    from difflib import get_close_matches

    close = get_close_matches(name, allowed, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
