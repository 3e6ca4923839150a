"""An optimizer of the reader's own, beside the paper's: ``--optimizer package.module:Class``.

It goes through what RAdam goes through (data, schedule, learning rates, seeds, weight decay), and
is judged by the same statistics. No file of ours has to change for it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from experiments.artifact import Artifact
from experiments.errors import UserError


def beside(artifact: Artifact, name: str, arguments: str | None = None) -> Artifact:
    """An artifact, and beside it the optimizer that two options of the command line ask for.

    Parameters
    ----------
    artifact
        One that compares optimizers.
    name
        "package.module:Class".
    arguments
        The class's keyword arguments, as a JSON object. The grid sets ``lr``; ``weight_decay`` is
        RAdam's if it is not given.

    Raises
    ------
    UserError
        If the artifact compares no optimizers, the name has another form, or the arguments are
        none.
    """
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), attribute]):
        raise UserError(
            f"--optimizer {name} names no optimizer of yours; use package.module:Class, such as "
            "torch.optim:NAdam"
        )
    given = _arguments(arguments or "{}")
    if "lr" in given:
        raise UserError(
            "--optimizer-args gives lr, which the learning-rate grid sets; leave it out"
        )
    try:
        return artifact.beside(name, **given)
    except (TypeError, ValueError) as error:
        raise UserError(f"--optimizer-args: {error}") from error


def tag(arguments: str) -> str:
    """A few letters that tell arguments from others, in whichever order they are given."""
    text = json.dumps(_arguments(arguments), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _arguments(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
        if not isinstance(given, dict):
            raise ValueError("it is no object")
        for key, value in given.items():
            if isinstance(value, dict):
                raise ValueError(f"{key} is an object itself")
    except ValueError as error:
        raise UserError(
            f"--optimizer-args {text} cannot be used ({error}); give one JSON object in quotes, "
            """such as '{"betas": [0.9, 0.99]}'"""
        ) from error
    return given
