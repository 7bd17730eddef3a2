"""The streams process with a bug: run as `python -m tests.integration.buggy_streams split|join`."""

import os
import sys

import faust

from leads.pages import Page, Pages
from messenger.events import PageId
from runtime.cluster import cluster_of
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import read_settings
from streams.app import build_app
from streams.worker import run_worker


class _SplitBug(Pages):
    @property
    def aliases(self) -> dict[PageId, PageId]:
        raise ArithmeticError


class _JoinBug(Pages):
    def get(self, page_id: PageId) -> Page:
        raise ArithmeticError


_BUGS = {"split": _SplitBug, "join": _JoinBug}


def main() -> None:
    settings = read_settings(os.environ)

    def build(metrics: Metrics, health: Health) -> faust.App:
        return build_app(settings, cluster_of(settings), _BUGS[sys.argv[1]](), (), metrics, health)

    run_worker(build, "127.0.0.1", 0)


if __name__ == "__main__":
    main()
