"""The wording of texts that people and Meta write, as it is compared."""

from unicodedata import normalize


def normal_text(text: str) -> str:
    """A text for comparison: case, width, blanks, and how its letters are composed do not count."""
    if text.isascii():
        return " ".join(text.lower().split())
    # Folding takes some letters apart.
    return " ".join(normalize("NFKC", normalize("NFKC", text).casefold()).split())
