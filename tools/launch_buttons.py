"""A Sphinx extension: buttons that open a chapter on Binder and on Colab.

They point at the executed notebooks that a workflow publishes, on a branch of their own: Colab
opens nothing else. Branch and folder come from ``repository`` in _config.yml, and so does the
address, or else it is that of the repository on GitHub whose workflow builds the book. Without one
there are no buttons.
"""

import os
from typing import Any
from urllib.parse import quote, urlsplit

from sphinx.application import Sphinx

HOSTS = {
    "Binder": "https://mybinder.org/v2/gh/{repository}/{branch}?urlpath={tree}",
    "Colab": "https://colab.research.google.com/github/{repository}/blob/{branch}/{path}",
}
ICONS = {"Binder": "logo_binder.svg", "Colab": "logo_colab.png"}
"""Pictures that the theme brings along."""


def address(configured: str | None) -> str:
    """Return the repository's address: the configured one, or that of GitHub Actions, or none.

    Other hosts' workflows set the same variables; what lies there Binder and Colab cannot open.
    """
    server, name = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    on_github = name and server == "https://github.com"
    return configured or (f"{server}/{name}" if on_github else "")


def links(address: str, branch: str, folder: str, page: str) -> dict[str, str]:
    """Return where a page's notebook opens, by the name of the host.

    Parameters
    ----------
    address : str
        The repository's, such as ``https://github.com/someone/something``.
    branch, folder : str
        Where in the repository the published notebooks lie.
    page : str
        The page's name, without an ending.

    Raises
    ------
    ValueError
        If the address is not that of a repository on GitHub.
    """
    parts = urlsplit(address)
    repository = parts.path.strip("/").removesuffix(".git")
    if parts.netloc != "github.com" or repository.count("/") != 1:
        raise ValueError(
            f"repository.url in _config.yml is {address!r}, which Binder and Colab cannot open; "
            "give https://github.com/OWNER/NAME, or leave it empty"
        )
    path = f"{folder}/{page}.ipynb"
    parts_of = {
        "repository": repository,
        "branch": branch,
        "path": path,
        "tree": quote(f"lab/tree/{path}", safe=""),
    }
    return {name: form.format(**parts_of) for name, form in HOSTS.items()}


def add(app: Sphinx, page: str, _: str, context: dict[str, Any], __: object) -> None:
    """Put the buttons into the header of a page that is a notebook."""
    options = app.config.html_theme_options
    repository = address(options.get("repository_url"))
    if not repository or "kernelspec" not in app.env.metadata.get(page, {}):
        return
    found = links(repository, options["repository_branch"], options["path_to_docs"], page)
    buttons = [
        {
            "type": "link",
            "text": name,
            "tooltip": f"Open this chapter on {name}",
            "icon": f"_static/images/{ICONS[name]}",
            "url": link,
        }
        for name, link in found.items()
    ]
    context["header_buttons"].append(
        {
            "type": "group",
            "tooltip": "Open as a notebook",
            "icon": "fas fa-rocket",
            "buttons": buttons,
            "label": "launch-buttons",
        }
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension, after the theme has begun its list of buttons."""
    app.connect("html-page-context", add, priority=502)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
