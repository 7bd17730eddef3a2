"""Confluent's Schema Registry API over the released schemas: every answer as a value, and nothing to write to."""

import json
import re
from typing import Any

from fastavro.schema import SchemaParseException, parse_schema

from schemas.compatibility import breaks
from schemas.released import Released, released, subjects

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
COMPATIBILITY = "FULL_TRANSITIVE"
_VERSION = re.compile(r"[1-9][0-9]{0,9}")


class RegistryRefusal(Exception):
    """An error of the API; the first three digits of its code are the HTTP status, `body` is what clients read.

    https://docs.confluent.io/platform/current/schema-registry/develop/api.html#errors
    """

    def __init__(self, error_code: int, message: str) -> None:
        super().__init__(message)
        self.status = int(str(error_code)[:3])
        self.body = {"error_code": error_code, "message": message}


class RegistryApi:
    """The answers for the topics of one prefix, as JSON values. A method raises `RegistryRefusal` for anything else."""

    def __init__(self, prefix: str = "") -> None:
        self._subjects = {f"{prefix}{subject}": versions for subject, versions in subjects().items()}

    def subjects(self, prefix: str = "") -> list[str]:
        """The subjects that begin with `prefix`; Confluent's `:*:` before it means every context, and there is one."""
        return [one for one in sorted(self._subjects) if one.startswith(prefix.removeprefix(":*:"))]

    def versions(self, subject: str) -> list[int]:
        return [one.version for one in self._versions_of(subject)]

    def version(self, subject: str, version: str) -> dict[str, Any]:
        """`version` is a number, `latest`, or -1, which means the same."""
        return _described(subject, self._find(subject, version))

    def schema(self, schema_id: str) -> dict[str, Any]:
        return {"schema": json.dumps(_by_id(schema_id).definition)}

    def uses(self, schema_id: str) -> list[dict[str, Any]]:
        """Where a schema is used."""
        wanted = _by_id(schema_id)
        return [
            {"subject": subject, "version": wanted.version}
            for subject, versions in sorted(self._subjects.items())
            if wanted in versions
        ]

    def config(self) -> dict[str, str]:
        return {"compatibilityLevel": COMPATIBILITY}

    def config_of(self, subject: str) -> dict[str, str]:
        if subject not in self._subjects:
            raise RegistryRefusal(40408, f"Subject '{subject}' does not have subject-level compatibility configured")
        return self.config()

    def look_up(self, subject: str, request: bytes) -> dict[str, Any]:
        """The release of a subject that is the schema in `request`, whatever its spacing."""
        versions = self._versions_of(subject)
        found = _same(versions, _requested(request))
        if found is None:
            raise RegistryRefusal(40403, "Schema not found")
        return _described(subject, found)

    def register(self, subject: str, request: bytes) -> dict[str, int]:
        """The id of a schema that is released already, so that clients which register at start work as they are."""
        found = _same(self._subjects.get(subject, ()), _requested(request))
        if found is None:
            message = f"Subject {subject} is in read-only mode: schemas are released with leadstream"
            raise RegistryRefusal(42205, message)
        return {"id": found.id}

    def compatible(self, subject: str, request: bytes, version: str | None = None) -> dict[str, Any]:
        """Whether the schema in `request` and a version, or every one, read each other; if not, which fields break."""
        wanted = _parsed(_requested(request))
        versions = self._versions_of(subject) if version is None else (self._find(subject, version),)
        faults = list(dict.fromkeys(fault for one in versions for fault in _breaks(one, wanted)))
        return {"is_compatible": False, "messages": faults} if faults else {"is_compatible": True}

    def _versions_of(self, subject: str) -> tuple[Released, ...]:
        try:
            return self._subjects[subject]
        except KeyError:
            raise RegistryRefusal(40401, f"Subject '{subject}' not found.") from None

    def _find(self, subject: str, version: str) -> Released:
        versions = self._versions_of(subject)
        if version in ("latest", "-1"):
            return versions[-1]
        if _VERSION.fullmatch(version) is None:
            raise RegistryRefusal(42202, f"The specified version '{version[:40]}' is not a valid version id.")
        for one in versions:
            if one.version == int(version):
                return one
        raise RegistryRefusal(40402, f"Version {version} not found.")


def _by_id(schema_id: str) -> Released:
    for one in released():
        if str(one.id) == schema_id:
            return one
    raise RegistryRefusal(40403, f"Schema {schema_id[:40]} not found")


def _described(subject: str, one: Released) -> dict[str, Any]:
    return {"subject": subject, "version": one.version, "id": one.id, "schema": json.dumps(one.definition)}


def _requested(request: bytes) -> Any:
    try:
        wanted = json.loads(request)
        if wanted.get("schemaType", "AVRO") == "AVRO":
            return json.loads(wanted["schema"])
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        pass
    raise RegistryRefusal(42201, "Input schema is an invalid Avro schema")


def _parsed(definition: Any) -> Any:
    try:
        parse_schema(definition)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, SchemaParseException):
        raise RegistryRefusal(42201, "Input schema is an invalid Avro schema") from None
    return definition


def _breaks(one: Released, wanted: Any) -> list[str]:
    if isinstance(wanted, dict) and wanted.get("type") == "record":
        return breaks(one.definition, wanted)
    return ["the schema is no record"]


def _same(versions: tuple[Released, ...], definition: Any) -> Released | None:
    return next((one for one in versions if one.definition == definition), None)
