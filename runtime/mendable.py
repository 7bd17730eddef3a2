"""The faults that an operator can mend."""


class Mendable(Exception):
    """Each argument is a line that says what is wrong and what to do, and is fit to print."""

    def __str__(self) -> str:
        return "\n".join(self.args)
