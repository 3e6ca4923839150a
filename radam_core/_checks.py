"""Checks of values that several modules take."""


def check_count(name: str, value: int, least: int = 1) -> None:
    """Check a number of things.

    Raises
    ------
    ValueError
        If it is not an integer of at least ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")
