"""Libraries of which we use private parts, and which must therefore be installed in exactly one version."""

from collections.abc import Mapping
from importlib.metadata import version

from runtime.mendable import Mendable


class WrongVersion(Mendable):
    """An installed library is not the version whose private parts we know."""


def require_versions(pins: Mapping[str, str]) -> None:
    """Raise `WrongVersion` unless exactly these versions are installed."""
    for package, expected in pins.items():
        if (installed := version(package)) != expected:
            fix = f"run `pip install {package}=={expected}`"
            raise WrongVersion(f"{package} {installed} is installed, leadstream needs exactly {expected}: {fix}")
