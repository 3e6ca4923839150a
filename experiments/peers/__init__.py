"""The other RAdams: what each computes and what it can do, found out by running it.

`implementations` makes them, `conventions` and `capabilities` ask the questions, and `table` puts
question and answer into a row each.
"""
