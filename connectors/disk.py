"""What everything that writes durable files needs: names that are on disk, and what a full disk is called."""

import errno
import os
from pathlib import Path

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # of OSError.errno


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to disk: without it a new file or a rename can be lost when the power fails."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
