"""Draws docs/findings.md from resubmit/meaning/advice.toml, in the order of the probe."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

from resubmit.meaning.advice import Advice, rows

HEAD = """<!-- Written by docs/generate.py from resubmit/meaning/advice.toml; change that. -->
# What a probe finds

`resubmit probe` and the service look at a server as a sender would, and name what they see with these codes.
They stand in the order of the conversation: what comes first hides what comes after.
`{host}` is the host that was looked at.

    resubmit probe mail.contoso.com:25 --level domain

Whether a finding is a fault or a warning depends on the level that is asked for:
at level `encrypt` what is wrong with a certificate is a warning only, at `certificate` it is a fault, and at
`domain` its name has to fit too.

A look is one connection to each address, which ends before any mail is sent: after MAIL, and RCPT where a
`probe_recipient` is set, come RSET and QUIT. Where STARTTLS is missing, `MAIL FROM:<>` in clear tells whether
it is withheld. A second connection is made, up to its handshake, where the first one's failed without a
reason (it offers every version and cipher), and where it stands on an ECDSA certificate or on a cipher that
Exchange Online does not document (it offers the documented ones alone).

Certificates are verified by Microsoft's list of roots where the extra `roots` is installed (what is on it is
likely trusted by Exchange Online, whose own list nobody can ask for), else by this machine's own store, or by
`ca_file`; a report names the list and its date.
Beside the look, what the certificates name is fetched by HTTP, within bounds: revocation lists (of 32 MiB at
most, kept in memory for an hour, or a minute while mail waits), OCSP answers, and the certificate of an
issuer that was not sent, which only tells what is missing.
A list that we can't reach makes the verdict unknown, not faulty; one that is there and can't be believed is
a fault, as it is to Exchange Online. Where the list or the responder gives a sound answer, trouble with the
other only warns. A look at one of our own routes asks for none, since our handoff does not either.
Where the host is its domain's MX, on port 25, it is held to what the domain published: its MTA-STS policy,
and TLSA records if a resolver on this machine vouches for them.

What Exchange Online says when it meets the same is in the last column, where it is published;
[causes.md](causes.md) has every other text.
"""

COLUMNS = "| finding | it means | what to do | Exchange Online says |"


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD.rstrip(), *_tables()])


def _tables() -> Iterator[str]:
    """A table for each part of the file, in its order and under its comment."""
    every = rows()
    text = resources.files("resubmit.meaning").joinpath("advice.toml").read_text("utf-8")
    for line in text.splitlines():
        if line.startswith("# ") and len(line) < 60 and not line.startswith(("# means", "# reports")):
            yield f"\n## {line[2:3].upper()}{line[3:]}\n\n{COLUMNS}\n|-|-|-|-|"
        elif line.startswith("["):
            yield _row(every[line.strip('[]"')])
    yield ""


def _row(one: Advice) -> str:
    code, _, where = one.code.partition(":")
    name = f"`{code}`" + (f" ({where.replace('_', ' ')})" if where else "")
    far = f"`{one.far}`" if one.far else ""
    return f"| {name} | {_cell(one.means)} | {_cell(one.advice)} | {_cell(far)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
