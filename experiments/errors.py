"""The errors that a user can mend: one sentence on the command line, and exit status 2."""


class UserError(Exception):
    """Says in one sentence what is wrong and what to do."""
