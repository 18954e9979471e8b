"""A worker of a study in a process of its own, which `toolkit.ablation.study.run_study` starts."""

from __future__ import annotations

import signal
import sys

from toolkit.cli.answer import explained
from toolkit.signals import end_with_parent


def main(parent: str, folder: str, url: str, threads: str, worker: str) -> None:
    """Work until the process `parent` ends, or sends SIGTERM; Ctrl-C at the terminal is for that one."""
    end_with_parent(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with explained():
        from toolkit.ablation.study import work_from_folder

        work_from_folder(folder, url, int(threads), int(worker))


if __name__ == "__main__":
    main(*sys.argv[1:])
