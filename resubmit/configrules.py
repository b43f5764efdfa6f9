"""What hangs between the keys of a config: names, references, addresses, files.

Works on the raw TOML, where any value may be of any type: what is of a wrong type is pydantic's to tell,
and is passed over here. So a route that is not there is said even when a port is wrong.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from resubmit.configproblems import nearest, shown
from resubmit.evidence.settings import Graph
from resubmit.model.hostport import host_port

_DOMAIN = re.compile(r"(\*\.)?(?!-)[^\s@*,;<>\"/]+(?<![-.])|\*")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_LITERAL = re.compile(r"\[[0-9A-Za-z:.]+\]")
_MAILBOX = re.compile(r"[^\s<>@\x00-\x1f\x7f\"]+@[^\s<>@\x00-\x1f\x7f\",;]+")
_FOLLOWED = ("evidence.folder", "evidence.log")
_FILES = {
    "route": ("ca_file", "client_certificate", "password_file"),
    "destination": ("ca_file", "recipients_file"),
}


def between_tables(raw: dict[str, Any], base: Path) -> list[str]:
    """Problems, one line each, key first. `base` is the config's folder."""
    return [
        *_names(raw, "route"),
        *_names(raw, "destination"),
        *_references(raw),
        *_domains(raw),
        *_addresses(raw),
        *_words(raw),
        *_paths(raw),
        *_files(raw, base),
        *_pairs(raw),
        *_zones(raw),
        *_graph(raw),
    ]


def _tables(raw: dict[str, Any], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The tables of an array of tables, passing over what is none; `name` may be dotted."""
    value: object = raw
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, list):
        yield from ((i, table) for i, table in enumerate(value) if isinstance(table, dict))


def _table(raw: dict[str, Any], *names: str) -> dict[str, Any]:
    value: object = raw
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _names(raw: dict[str, Any], kind: str) -> Iterator[str]:
    seen: dict[str, int] = {}
    for i, table in _tables(raw, kind):
        name = table.get("name")
        if not isinstance(name, str) or not name:
            continue
        if name in seen:
            yield f"{kind}[{i}].name: {shown(name)} is taken by {kind}[{seen[name]}]; each needs its own"
        elif any(c.isspace() or c in "*,;:" or not c.isprintable() for c in name):
            yield f"{kind}[{i}].name: {shown(name)} is not allowed; no blanks and none of * , ; :"
        seen.setdefault(name, i)


def _references(raw: dict[str, Any]) -> Iterator[str]:
    routes = [t["name"] for _, t in _tables(raw, "route") if isinstance(t.get("name"), str)]
    for i, table in _tables(raw, "destination"):
        for key in ("handoff", "resubmit"):
            name = table.get(key)
            if isinstance(name, str) and name not in routes and (name or key == "handoff"):
                there = nearest(name, routes) if routes else "this file has no [[route]]"
                yield f"destination[{i}].{key}: {shown(name)} is no route; {there}"


def _domains(raw: dict[str, Any]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for i, table in _tables(raw, "destination"):
        domains = table.get("domains")
        for j, domain in enumerate(domains if isinstance(domains, list) else []):
            key = f"destination[{i}].domains[{j}]"
            if not isinstance(domain, str):
                continue
            folded = domain.lower().rstrip(".")
            if not _DOMAIN.fullmatch(folded):
                yield f'{key}: {shown(domain)} is not allowed; a domain, "*.domain" (those below it) or "*"'
            elif folded in seen:
                yield f"{key}: {shown(domain)} is listed by {seen[folded]} too; a domain has one destination"
            seen.setdefault(folded, key)


def _addresses(raw: dict[str, Any]) -> Iterator[str]:
    listen = _table(raw, "intake", "smtp").get("listen")
    wanted: list[tuple[str, object, int | None]] = [
        (f"intake.smtp.listen[{i}]", a, None)
        for i, a in enumerate(listen if isinstance(listen, list) else [])
    ]
    wanted += [("web.listen", a, None) for a in [_table(raw, "web").get("listen")] if a]
    wanted += [
        (f"destination[{i}].probe", t["probe"], 25) for i, t in _tables(raw, "destination") if t.get("probe")
    ]
    for key, value, fallback in wanted:
        if isinstance(value, str):
            try:
                if host_port(value, fallback)[1] == 0 and key.endswith(".probe"):
                    raise ValueError("a port from 1 up")
            except ValueError as error:
                yield f"{key}: {shown(value)} is not allowed; {error}"
    for i, one in enumerate(same := listen if isinstance(listen, list) else []):
        if isinstance(one, str) and one in same[:i] and not one.endswith(":0"):
            yield f"intake.smtp.listen[{i}]: {shown(one)} is listed twice"
    for i, table in _tables(raw, "route"):
        if (source := table.get("source_address")) and isinstance(source, str):
            try:
                ip_address(source)
            except ValueError:
                yield f"route[{i}].source_address: {shown(source)} is not allowed; one of our addresses"


def _words(raw: dict[str, Any]) -> Iterator[str]:
    """What goes into SMTP commands and TLS as it stands: a wrong character would end every conversation."""
    most = _table(raw, "intake", "smtp").get("max_message_size")
    if isinstance(most, str) and re.fullmatch(r"\s*0+(\.0*)?\s*[A-Za-z]*\s*", most):
        yield f"intake.smtp.max_message_size: {shown(most)} is not allowed; no mail would be taken"
    names = [("intake.smtp.hostname", _table(raw, "intake", "smtp").get("hostname"))]
    names += [(f"route[{i}].ehlo_name", t.get("ehlo_name")) for i, t in _tables(raw, "route")]
    for key, value in names:
        if isinstance(value, str) and value and not (_HOST.fullmatch(value) or _LITERAL.fullmatch(value)):
            yield f"{key}: {shown(value)} is not allowed; a host name of letters, digits, dots and hyphens"
    for i, table in _tables(raw, "route"):
        yield from _host(f"route[{i}].host", table.get("host"))
        if (name := table.get("tls_name")) and isinstance(name, str) and not _DOMAIN.fullmatch(name.lower()):
            yield f"route[{i}].tls_name: {shown(name)} is not allowed; a host name"
    for i, table in _tables(raw, "destination"):
        if (
            (name := table.get("probe_name"))
            and isinstance(name, str)
            and not _DOMAIN.fullmatch(name.lower())
        ):
            yield f'destination[{i}].probe_name: {shown(name)} is not allowed; a name or "*.domain"'
        who = table.get("probe_recipient")
        if isinstance(who, str) and who and not _MAILBOX.fullmatch(who):
            yield f"destination[{i}].probe_recipient: {shown(who)} is not allowed; an address like a@b.com"


def _host(key: str, host: object) -> Iterator[str]:
    """The host of a route: a name or an address without brackets, its port beside it."""
    if not isinstance(host, str) or not host:
        return
    try:
        ip_address(host.split("%")[0])
        return
    except ValueError:
        pass
    if re.fullmatch(r"[^:]+:\d+", host):
        yield f"{key}: {shown(host)} is not allowed; the port goes into port"
    elif re.search(r"[^\w.-]", host):
        yield f"{key}: {shown(host)} is not allowed; a host name or an address, without brackets"


def _paths(raw: dict[str, Any]) -> Iterator[str]:
    """An empty path would be the config's own folder."""
    named = [("journal.path", _table(raw, "journal").get("path"))]
    named += [(f"{kind}[{i}].path", t.get("path")) for kind in _FOLLOWED for i, t in _tables(raw, kind)]
    yield from (
        f'{key}: "" is not allowed; a path, relative to this file' for key, said in named if said == ""
    )


def _files(raw: dict[str, Any], base: Path) -> Iterator[str]:
    named = [
        (f"{kind}[{i}].{key}", t.get(key))
        for kind, keys in _FILES.items()
        for i, t in _tables(raw, kind)
        for key in keys
    ]
    smtp = _table(raw, "intake", "smtp")
    named += [(f"intake.smtp.{key}", smtp.get(key)) for key in ("tls_certificate", "tls_key")]
    for key, value in named:
        if not isinstance(value, str):
            continue
        file = base / value
        if not file.is_file():
            yield f"{key}: {shown(value)} is no file; looked for {file.absolute()}"
        elif not os.access(file, os.R_OK):
            yield f"{key}: {shown(value)} can't be read by this user; {file.absolute()} needs read permission"


def _pairs(raw: dict[str, Any]) -> Iterator[str]:
    """Keys that only make sense with another."""
    smtp = _table(raw, "intake", "smtp")
    for one, other in (("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")):
        if one in smtp and other not in smtp:
            yield f"intake.smtp.{one}: needs {other} beside it"
    for i, table in _tables(raw, "route"):
        if table.get("username") and "password_file" not in table:
            yield f"route[{i}].username: needs password_file beside it"
        if "password_file" in table and not table.get("username"):
            yield f"route[{i}].password_file: needs username beside it"
        if table.get("username") and table.get("tls") in ("none", "opportunistic"):
            yield f'route[{i}].username: a password goes over TLS only; set tls to "required" or "verified"'


def _zones(raw: dict[str, Any]) -> Iterator[str]:
    for kind in _FOLLOWED:
        for i, table in _tables(raw, kind):
            zone = table.get("timezone")
            if isinstance(zone, str):
                try:
                    ZoneInfo(zone)
                except (ValueError, OSError, LookupError):  # ZoneInfoNotFoundError is a KeyError
                    yield f"{kind}[{i}].timezone: {shown(zone)} is not allowed; a name like Europe/Berlin"


def _graph(raw: dict[str, Any]) -> Iterator[str]:
    """One way to sign in, and addresses that a secret may be sent to."""
    graph = _table(raw, "evidence", "graph")
    if not graph:
        return
    if graph.get("client_secret_file") and graph.get("certificate_file"):
        yield "evidence.graph.certificate_file: either this or client_secret_file, not both"
    for key in ("endpoint", "login"):
        if isinstance(value := graph.get(key), str) and not _may_get_a_secret(value):
            yield f"evidence.graph.{key}: {shown(value)} is not allowed; an address that begins with https://"
    if isinstance(value := graph.get("from_ip"), str) and value:
        try:
            ip_address(value)
        except ValueError:
            yield f"evidence.graph.from_ip: {shown(value)} is not allowed; the address we come from"


def of_graph(graph: Graph) -> Iterator[str]:
    """What keeps the trace from being asked, key first; mail goes without it, so these are warnings."""
    if graph.client_secret_file is None and graph.certificate_file is None:
        yield "evidence.graph: needs client_secret_file or certificate_file; the message trace can't be asked"
    for key in ("client_secret_file", "certificate_file", "ca_file"):
        file: Path | None = getattr(graph, key)
        if file is not None and not os.access(file, os.R_OK):
            there = "can't be read by this user" if file.exists() else "is no file"
            yield f"evidence.graph.{key}: {file} {there}; the message trace can't be asked"
    for key in ("tenant", "client_id"):
        if not re.fullmatch(r"[A-Za-z0-9.-]+", value := getattr(graph, key)):
            yield f"evidence.graph.{key}: {shown(value)} is no id; the message trace can't be asked"


def _may_get_a_secret(address: str) -> bool:
    """Whether it is an https address without anything behind the path; http only to this machine itself."""
    try:
        parts = urlsplit(address)
        here = parts.hostname in ("localhost", "127.0.0.1", "::1")
        secure = parts.scheme == "https" or (parts.scheme == "http" and here)
        return secure and bool(parts.hostname) and not (parts.query or parts.fragment or parts.username)
    except ValueError:
        return False
