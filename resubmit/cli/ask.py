"""Changing commands: the request to the running service, or, when none runs, carried out in the foreground.

One JSON line goes over the Unix socket in the journal's folder; lines come back: `{"progress": {…}}` as
often as there is some, then `{"result": …}` or `{"error", "hint", "exit"}`. No socket, or nobody behind it,
means that no service runs: then `resubmit.app.foreground` takes the journal's lock and does the same.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resubmit.configfile import find_config, journal_folder
from resubmit.errors import NotPermitted, NotReachable, ResubmitError
from resubmit.model.filter import Filter

Progress = Callable[[dict[str, Any]], None]

SOCKET = "socket"
"""Its name in the journal's folder."""

_LONGEST_PATH = 100
"""A Unix socket's path has 108 octets on Linux, 104 elsewhere (unix(7)); longer ones go by a descriptor."""


def ask(
    args: argparse.Namespace,
    do: str,
    flt: Filter | None = None,
    options: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Any:
    """Have a request carried out; its result. Raises what the service said went wrong, with its exit code.

    `args` brings the config and, where the command has it, the reason.
    """
    config = find_config(args.config)
    request: dict[str, Any] = {
        "do": do,
        "filter": (flt or Filter()).to_plain(),
        "options": options or {},
        "reason": getattr(args, "reason", None) or "",
        "by": user(),
    }
    tell = progress or (lambda _: None)
    service = _connect(journal_folder(config))
    if service is not None:
        with service:
            return _converse(service, request, tell)
    from resubmit.app import foreground
    from resubmit.config import load

    return foreground(load(config), request, tell)


def user() -> str:
    """Who asks: the login name; who became root by sudo keeps theirs."""
    name = os.environ.get("SUDO_USER") if os.geteuid() == 0 else None
    try:
        return name or pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def is_running(folder: Path) -> bool | None:
    """Whether a service answers at this journal; None when this user may not ask."""
    try:
        service = _connect(folder)
    except NotPermitted:
        return None
    except NotReachable:
        return False
    if service is None:
        return False
    service.close()
    return True


def _connect(folder: Path) -> socket.socket | None:
    """A connection to the service, None when none runs."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    descriptor = None
    try:
        path = str(folder / SOCKET)
        if len(os.fsencode(path)) > _LONGEST_PATH:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            path = f"/proc/self/fd/{descriptor}/{SOCKET}"
        client.connect(path)
        return client
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        client.close()
        return None
    except PermissionError:
        client.close()
        raise NotPermitted(
            f"{folder / SOCKET}: this user may not ask the service", hint="run it as the service's user"
        ) from None
    except OSError as error:
        client.close()
        raise NotReachable(f"{folder / SOCKET}: {error.strerror}", hint="is the service well?") from None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _converse(service: socket.socket, request: dict[str, Any], progress: Progress) -> Any:
    gone = ResubmitError(
        "the service ended before it answered",
        hint="see its log; `resubmit jobs` says whether a job was made",
    )
    try:
        service.sendall(json.dumps(request).encode() + b"\n")
        for line in service.makefile("rb"):
            said = json.loads(line)
            if "progress" in said:
                progress(said["progress"])
            elif "error" in said:
                error = ResubmitError(str(said["error"]), hint=str(said.get("hint") or ""))
                error.exit_code = int(said.get("exit") or 1)
                raise error
            elif "result" in said:
                return said["result"]
    except (ConnectionError, ValueError):
        raise gone from None
    raise gone
