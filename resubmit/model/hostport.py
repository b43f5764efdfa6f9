"""An address as a config or a person writes it: host and port."""

from __future__ import annotations

import re

_FORMS = re.compile(r"\[([^\]\s]+)\](?::([0-9]{1,5}))?|([^:\[\]\s@/\\]*)(?::([0-9]{1,5}))?|([0-9a-fA-F:.]+)")


def host_port(text: str, fallback: int | None = None) -> tuple[str, int]:
    """`host:port`, `[v6]:port`; where a port is given to fall back on, `host` or `v6` alone too.

    The host may be empty (every address) when a port is there. ValueError says what is allowed.
    """
    found = _FORMS.fullmatch(text.strip())
    host = (found[1] or found[3] or found[5] or "") if found else ""
    digits = (found[2] or found[4]) if found else None
    if found and digits is None and fallback is not None and host:
        return host, fallback
    if not found or not digits or int(digits) > 65535:
        raise ValueError("an address like 127.0.0.1:2525, [::1]:2525 or mail.example.com:25")
    return host, int(digits)
