"""`python -m resubmit` and the `resubmit` command. `--version` answers before anything is imported."""

from __future__ import annotations

import sys

from resubmit import __version__


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"resubmit {__version__}\n")
        sys.exit(0)
    from resubmit.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
