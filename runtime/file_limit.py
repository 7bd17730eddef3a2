"""How many files a process may have open: macOS gives 256, which connections and Kafka's segments use up."""

import resource

# Below the 10240 that macOS grants whatever it calls its hard limit.
_NEEDED = 4096


def raise_file_limit() -> int:
    """Raise the soft limit, for this process and its children, as far as needed and allowed; gives what holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _NEEDED if hard == resource.RLIM_INFINITY else min(_NEEDED, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        return allowed
    return _NEEDED if soft == resource.RLIM_INFINITY else soft
