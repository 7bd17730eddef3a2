"""The fields about a person, by what the schemas mark as such, and the mask that stands in their place."""

from schemas.released import newest

MASK = "•••"
PERSONAL = frozenset(field["name"] for field in newest("lead").definition["fields"] if field.get("pii"))
