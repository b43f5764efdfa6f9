"""The config table of the web listener."""

from __future__ import annotations

from resubmit.settings import Table


class Web(Table):
    """`[web]`: /healthz, /readyz and /metrics. Without the table it is off."""

    listen: str = "127.0.0.1:8025"
    """The address; empty switches it off."""
