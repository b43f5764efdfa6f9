"""`serve` and `demo`: the commands that run a service."""

from __future__ import annotations

import argparse

from resubmit.cli.commands import Command


def _add_serve(parser: argparse.ArgumentParser) -> None:
    pass  # everything it needs is in the config


def _serve(args: argparse.Namespace) -> int:
    from resubmit.app import serve
    from resubmit.config import find_config, load

    return serve(load(find_config(args.config)))


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the final report as one object")
    parser.add_argument("--keep", action="store_true", help="leave it running, to be looked at")


def _demo(args: argparse.Namespace) -> int:
    from resubmit.lab.demo import run

    return run(args)


COMMANDS = {
    "serve": Command(
        _add_serve,
        _serve,
        "Run the service in the foreground until SIGTERM or Ctrl-C; it stops within 5 seconds.",
        {"resubmit serve --config /etc/resubmit/config.toml": ""},
    ),
    "demo": Command(
        _add_demo,
        _demo,
        "The incident and its recovery, in under a minute, with real SMTP, TLS and a real journal of its own.",
        {"resubmit demo": "", "resubmit demo --keep": "look around with the other commands"},
    ),
}
