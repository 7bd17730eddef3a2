"""Certificates for tests, made by openssl; skips the test where there is none."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files; `authority` is the certificate of the CA that signed it."""

    cert: Path
    key: Path
    authority: Path


def make_authority(folder: Path, name: str) -> Certificate:
    """A CA of our own."""
    made = Certificate(folder / f"{name}.crt", folder / f"{name}.key", folder / f"{name}.crt")
    _openssl("req", "-x509", *_key(made), "-subj", f"/CN={name}", "-days", "2", "-out", made.cert)
    return made


def issue(authority: Certificate, name: str) -> Certificate:
    """A certificate that the authority signed, for a host or a user of this name."""
    folder = authority.cert.parent
    made = Certificate(folder / f"{name}.crt", folder / f"{name}.key", authority.cert)
    request, names = folder / f"{name}.csr", folder / f"{name}.ext"
    names.write_text(f"subjectAltName=DNS:{name}\n")
    _openssl("req", *_key(made), "-subj", f"/CN={name}", "-out", request)
    signed_by = ("-CA", authority.cert, "-CAkey", authority.key, "-CAcreateserial", "-days", "2", "-extfile", names)
    _openssl("x509", "-req", "-in", request, *signed_by, "-out", made.cert)
    return made


def _key(made: Certificate) -> tuple[str | Path, ...]:
    return ("-newkey", "rsa:2048", "-nodes", "-keyout", made.key)


def _openssl(*arguments: str | Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("certificates are made by openssl, and there is none on PATH")
    subprocess.run([openssl, *map(str, arguments)], check=True, capture_output=True)
