"""Number words and dates in German and English: true translations that installed packages know.

num2words spells numbers out, and Babel has the calendar's words of Unicode's locale data.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import numpy as np

NUMBERS = 3_000
DATES = 1_000
HELD_OUT = 100
FORMATS = {"de": ("d. MMMM y", "EEEE, d. MMMM"), "en": ("MMMM d, y", "EEEE, MMMM d")}
"""The same dates as each language writes them."""


def splits() -> dict[str, Mapping[str, tuple[str, ...]]]:
    """Training, validation and test set, without overlap; the same on every machine."""
    pairs = dict.fromkeys([*_numbers(), *_dates()])
    order = np.random.default_rng(0).permutation(len(pairs))
    shuffled = [list(pairs)[i] for i in order]
    parts = {
        "train": shuffled[2 * HELD_OUT :],
        "validation": shuffled[:HELD_OUT],
        "test": shuffled[HELD_OUT : 2 * HELD_OUT],
    }
    return {
        name: {
            "de": tuple(german for german, _ in part),
            "en": tuple(english for _, english in part),
        }
        for name, part in parts.items()
    }


def _numbers() -> list[tuple[str, str]]:
    from num2words import num2words  # here, for what needs no words needs no package

    # The exponent is drawn evenly, so that short words are not rare.
    drawn = np.random.default_rng(1).uniform(0, 6, NUMBERS)
    numbers = sorted({int(10**exponent) for exponent in drawn})
    return [(num2words(n, lang="de"), num2words(n, lang="en")) for n in numbers]


def _dates() -> list[tuple[str, str]]:
    from babel.dates import format_date

    days = np.random.default_rng(2).choice(40_000, DATES, replace=False)
    dates = [datetime.date(1950, 1, 1) + datetime.timedelta(int(day)) for day in days]
    return [
        (format_date(date, german, locale="de"), format_date(date, english, locale="en"))
        for date in dates
        for german, english in zip(*FORMATS.values(), strict=True)
    ]
