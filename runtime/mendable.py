"""The faults that an operator can mend."""


class Mendable(Exception):
    """The message says in one line what is wrong and what to do, and is fit to print."""
