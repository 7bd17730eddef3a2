"""The answers of the built-in schema registry, in Confluent's API, from the released schemas alone."""

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
    """An error of the API. The first three digits of its code are the HTTP status; `body` is for the client.

    https://docs.confluent.io/platform/current/schema-registry/develop/api.html#errors
    """

    def __init__(self, error_code: int, message: str) -> None:
        super().__init__(message)
        self.status = int(str(error_code)[:3])
        self.body = {"error_code": error_code, "message": message}


class RegistryApi:
    """The answers for the topics with a prefix, as JSON values; raises `RegistryRefusal` for any other request."""

    def __init__(self, prefix: str = "") -> None:
        self._subjects = {f"{prefix}{subject}": versions for subject, versions in subjects().items()}

    def subjects(self, prefix: str = "") -> list[str]:
        """The subjects that begin with `prefix`; Confluent's `:*:` before it means all contexts. There is only one."""
        return [subject for subject in sorted(self._subjects) if subject.startswith(prefix.removeprefix(":*:"))]

    def versions(self, subject: str) -> list[int]:
        return [release.version for release in self._versions_of(subject)]

    def version(self, subject: str, version: str) -> dict[str, Any]:
        """`version` is a number, `latest`, or -1, which means the same."""
        return _described(subject, self._find(subject, version))

    def schema(self, schema_id: str) -> dict[str, Any]:
        return {"schema": json.dumps(_by_id(schema_id).definition)}

    def uses(self, schema_id: str) -> list[dict[str, Any]]:
        """The subjects and versions of a schema."""
        release = _by_id(schema_id)
        return [
            {"subject": subject, "version": release.version}
            for subject, versions in sorted(self._subjects.items())
            if release in versions
        ]

    def config(self) -> dict[str, str]:
        return {"compatibilityLevel": COMPATIBILITY}

    def config_of(self, subject: str) -> dict[str, str]:
        if subject not in self._subjects:
            raise RegistryRefusal(40408, f"Subject '{subject}' does not have subject-level compatibility configured")
        return self.config()

    def look_up(self, subject: str, request: bytes) -> dict[str, Any]:
        """The release of a subject that equals the schema in `request`; spacing does not count."""
        versions = self._versions_of(subject)
        release = _same(versions, _requested(request))
        if release is None:
            raise RegistryRefusal(40403, "Schema not found")
        return _described(subject, release)

    def register(self, subject: str, request: bytes) -> dict[str, int]:
        """The id of a released schema, so that clients that register at start work unchanged."""
        release = _same(self._subjects.get(subject, ()), _requested(request))
        if release is None:
            message = f"Subject {subject} is in read-only mode: schemas are released with leadstream"
            raise RegistryRefusal(42205, message)
        return {"id": release.id}

    def compatible(self, subject: str, request: bytes, version: str | None = None) -> dict[str, Any]:
        """Whether the schema in `request` and a version, or all, read each other; if not, which fields break."""
        candidate = _parsed(_requested(request))
        versions = self._versions_of(subject) if version is None else (self._find(subject, version),)
        faults = list(dict.fromkeys(fault for release in versions for fault in _breaks(release, candidate)))
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
        for release in versions:
            if release.version == int(version):
                return release
        raise RegistryRefusal(40402, f"Version {version} not found.")


def _by_id(schema_id: str) -> Released:
    for release in released():
        if str(release.id) == schema_id:
            return release
    raise RegistryRefusal(40403, f"Schema {schema_id[:40]} not found")


def _described(subject: str, release: Released) -> dict[str, Any]:
    definition = json.dumps(release.definition)
    return {"subject": subject, "version": release.version, "id": release.id, "schema": definition}


def _requested(request: bytes) -> Any:
    try:
        fields = json.loads(request)
        if fields.get("schemaType", "AVRO") == "AVRO":
            return json.loads(fields["schema"])
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        pass
    raise RegistryRefusal(42201, "Input schema is an invalid Avro schema")


def _parsed(definition: Any) -> Any:
    try:
        parse_schema(definition)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, SchemaParseException):
        raise RegistryRefusal(42201, "Input schema is an invalid Avro schema") from None
    return definition


def _breaks(release: Released, candidate: Any) -> list[str]:
    if isinstance(candidate, dict) and candidate.get("type") == "record":
        return breaks(release.definition, candidate)
    return ["the schema is not a record"]


def _same(versions: tuple[Released, ...], definition: Any) -> Released | None:
    return next((release for release in versions if release.definition == definition), None)
