"""The limit of open files: macOS gives 256, too few for connections and Kafka's segments."""

import resource

# Below 10240, which macOS grants at any hard limit that it shows.
_NEEDED = 4096


def raise_file_limit() -> int:
    """Raise the soft limit of this process and its children as far as needed and allowed; return the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _NEEDED if hard == resource.RLIM_INFINITY else min(_NEEDED, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        return allowed
    return _NEEDED if soft == resource.RLIM_INFINITY else soft
