"""A copy of a journal, taken while it is written: the database as of one moment, then the bodies it names.

Limits: the bodies are linked where the copy is on the same disk (they never change), else copied.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from resubmit.errors import JournalError
from resubmit.journal.bodies import BODIES
from resubmit.journal.connection import DATABASE, map_error, open_reader, sqlite3

_FILES = """
select body_file
from message
where body_file is not null
"""


def copy(folder: Path, to: Path) -> None:
    """The journal at `folder` is copied to the new folder `to`. Raises JournalError, OSError."""
    try:
        to.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise JournalError(f"{to} is there already", hint="name a folder that is not") from None
    os.close(os.open(to / DATABASE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    (to / BODIES).mkdir(mode=0o700)
    source = open_reader(folder)
    target = None
    try:
        target = sqlite3.connect(to / DATABASE)
        source.backup(target)
        names = [name for (name,) in target.execute(_FILES)]
    except sqlite3.Error as error:
        raise map_error(error, folder / DATABASE) from error
    finally:
        source.close()
        if target is not None:
            target.close()
    for name in names:
        try:
            os.link(folder / BODIES / name, to / BODIES / name)
        except OSError:
            shutil.copy2(folder / BODIES / name, to / BODIES / name)
