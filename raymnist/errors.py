"""The one exception for what a user can mend."""


class InputError(ValueError):
    """The input is wrong: the message is one line that says where, what was expected and what was received.

    The command line prints it without a traceback and exits with status 2.
    """


def choices(kind: str, name: object, available: object) -> InputError:
    """Make the error for an unknown `name` of a `kind`, which lists the names that are `available`."""
    return InputError(f"unknown {kind} {name!r}; choose from {', '.join(sorted(available))}")  # type: ignore[call-overload]
