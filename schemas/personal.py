"""The fields of a lead with personal data, as the schema marks them, and the mask that is shown for them."""

from schemas.released import newest

MASK = "•••"
PERSONAL = frozenset(field["name"] for field in newest("lead").definition["fields"] if field.get("pii"))
