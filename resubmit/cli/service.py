"""`serve` and `demo`: the service itself, and the whole story in a minute."""

from __future__ import annotations

import argparse

from resubmit.cli.commands import Command


def _add_serve(parser: argparse.ArgumentParser) -> None:
    """Everything is in the config."""


def _serve(args: argparse.Namespace) -> int:
    from resubmit.config import find_config, load

    config = load(find_config(args.config))
    from resubmit.app import serve

    return serve(config)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="only the final report, as one object")
    parser.add_argument("--keep", action="store_true", help="leave it running, with its paths printed")


def _demo(args: argparse.Namespace) -> int:
    from resubmit.lab.demo import run

    return run(args)


COMMANDS = {
    "serve": Command(
        _add_serve,
        _serve,
        "Runs the service in the foreground until SIGTERM or SIGINT; it stops within 5 seconds.",
        {
            "resubmit serve --config config.toml": "",
            "resubmit config check && resubmit serve": "",
        },
    ),
    "demo": Command(
        _add_demo,
        _demo,
        "The whole story in a minute: mail flows, a certificate expires, mail is stuck, the certificate is\n"
        "renewed, and everything goes. Own process, journal and servers; names under .invalid only.",
        {
            "resubmit demo": "",
            "resubmit demo --keep": "and look at it with the other commands",
        },
    ),
}
