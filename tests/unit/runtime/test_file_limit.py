"""The limit of open files, in processes of their own, since a limit that is lowered cannot always be raised again."""

import subprocess
import sys

import pytest

ASK = """
import resource, sys
from runtime.file_limit import raise_file_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
print(raise_file_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [(256, 8192, "4096 4096 8192"), (256, 512, "512 512 512"), (5000, 8192, "5000 5000 8192")],
)
def test_the_limit_is_raised_as_far_as_needed_and_allowed(soft: int, hard: int, expected: str) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", ASK, str(soft), str(hard)], capture_output=True, text=True, check=True
    )

    assert asked.stdout.strip() == expected
