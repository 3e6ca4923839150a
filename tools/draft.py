"""A Sphinx extension: on every page of a draft, a banner that says so (`make book DRAFT=1`)."""

import os

from sphinx.application import Sphinx
from sphinx.config import Config

MARK = "BOOK_DRAFT"
"""The variable of the environment that is set while a draft is built."""
BANNER = (
    "A draft, built from other records than those that the text was written for: figures, tables "
    "and verdicts are of these records; sentences may be out of date."
)


def announce(app: Sphinx, config: Config) -> None:
    """Hand the theme the banner."""
    config.html_theme_options["announcement"] = BANNER


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    if MARK in os.environ:
        app.connect("config-inited", announce)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
