"""Why a file cannot be read, in a few words."""

import os


def reason(fault: OSError | UnicodeDecodeError) -> str:
    """A denied permission names the user of this process: in a container it is rarely the one who wrote the file."""
    if isinstance(fault, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if isinstance(fault, PermissionError):
        return f"{fault.strerror} for uid {os.geteuid()}"
    return fault.strerror or type(fault).__name__
