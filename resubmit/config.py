"""The rooms' settings put together, and a config file judged against them.

`load` gives a whole Config or raises ConfigError with *every* problem, one a line: file, key, value (never
a secret's), what is allowed. What hangs between tables (a route that is not there, a name taken twice) is
looked at in the raw TOML, so that it is said even when other values are wrong.

Source: design, section 6.2. Limits: TOML tells no lines for values, so a problem names its key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from resubmit.configfile import find_config, read_tables
from resubmit.configproblems import known_tables, problems_of
from resubmit.configrules import between_tables, of_graph
from resubmit.errors import ConfigError
from resubmit.evidence.settings import Folder, Graph, Log
from resubmit.handoff.settings import Destination, Route
from resubmit.intake.settings import Reports, SmtpIntake
from resubmit.journal.settings import JournalSettings, Retention
from resubmit.model.hostport import host_port
from resubmit.model.tls import Endpoint
from resubmit.recovery.settings import Recovery
from resubmit.settings import Table
from resubmit.web.settings import Web

M = TypeVar("M", bound=BaseModel)

__all__ = ["Config", "Evidence", "Intake", "LogSettings", "Tables", "find_config", "load"]


class LogSettings(Table):
    """`[log]`: the service's own log, on stderr."""

    format: Literal["auto", "json", "console"] = "auto"
    """auto: console on a terminal, else json, one object a line."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged."""


class Intake(Table):
    """`[intake.…]`: the ways in."""

    smtp: SmtpIntake = Field(default_factory=SmtpIntake)
    """The SMTP listener."""
    milter: dict[str, Any] | None = None
    """A milter beside the relay. Comes with its feature; not read yet."""
    reports: Reports | None = None
    """Mail that is read and not handed on."""
    folder: list[dict[str, Any]] = Field(default_factory=list)
    """Folders of messages. Comes with its feature; not read yet."""


class Evidence(Table):
    """`[evidence.…]`: where the world's statements are read; off when left out."""

    folder: list[Folder] = Field(default_factory=list)
    """Folders of trace files and the like."""
    log: list[Log] = Field(default_factory=list)
    """Logs that are followed."""
    graph: Graph | None = None
    """Exchange Online's message trace, asked by Graph."""


class Tables(Table):
    """Every table of a config, under its TOML name."""

    journal: JournalSettings = Field(default_factory=JournalSettings)
    intake: Intake = Field(default_factory=Intake)
    route: list[Route] = Field(default_factory=list)
    destination: list[Destination] = Field(default_factory=list)
    evidence: Evidence = Field(default_factory=Evidence)
    recovery: Recovery = Field(default_factory=Recovery)
    retention: Retention = Field(default_factory=Retention)
    web: Web | None = None
    log: LogSettings = Field(default_factory=LogSettings)
    alerts: dict[str, Any] | None = None
    """Comes with its feature; not read yet."""
    encryption: dict[str, Any] | None = None
    """Comes with its feature; not read yet."""


LATER = (
    "intake.milter",
    "intake.folder",
    "alerts",
    "encryption",
)
"""Tables whose feature comes later: validated, warned about, not read."""


_PROBED = {"none": "none", "opportunistic": "opportunistic", "required": "encrypt", "verified": "domain"}
"""How strictly a probe looks where mail leaves at a route's TLS level."""


@dataclass(frozen=True, slots=True)
class Config:
    """A config that holds together. Every path in it is absolute; `web` is None when it is off.

    path: the file; warnings: what is accepted and not acted upon, one line each. `resubmit` of every
    destination names a route (its handoff's where it was left out).
    """

    path: Path
    journal: JournalSettings
    intake: Intake
    route: tuple[Route, ...]
    destination: tuple[Destination, ...]
    evidence: Evidence
    recovery: Recovery
    retention: Retention
    web: Web | None
    log: LogSettings
    tables: Tables
    """the same as TOML has it, for `config show`"""
    warnings: tuple[str, ...] = ()

    def route_named(self, name: str) -> Route:
        """The route of that name; KeyError when there is none (load has checked every reference)."""
        return next((r for r in self.route if r.name == name), None) or _missing(name)

    def endpoint_of(self, destination: Destination) -> Endpoint:
        """What decides about a destination: its `probe`, as strictly as `probe_level`; else the resubmission
        route's host, as that route goes there, and no more strictly unless `probe_level` is given."""
        recipient = destination.probe_recipient
        domains = tuple(one for one in destination.domains if not one.startswith("*"))
        if destination.probe:
            host, port = host_port(destination.probe, 25)
            name, ca_file = destination.probe_name, str(destination.ca_file or "")
            return Endpoint(host, port, destination.probe_level, name, ca_file, recipient, domains)
        found = self.endpoint_of_route(self.route_named(destination.resubmit))
        given = "probe_level" in destination.model_fields_set
        return replace(
            found,
            level=destination.probe_level if given else found.level,
            tls_domain=destination.probe_name or found.tls_domain,
            ca_file=str(destination.ca_file or found.ca_file),
            recipient=recipient,
            domains=domains,
            revocation=given,
        )

    def endpoint_of_route(self, route: Route) -> Endpoint:
        """What the probe of a route looks at: its host, as strictly as the route itself."""
        name, ca_file = route.tls_name, str(route.ca_file or "")
        return Endpoint(route.host, route.port, _PROBED[route.tls], name, ca_file, revocation=False)

    def endpoint_of_listener(self) -> Endpoint | None:
        """Our own listener as a client here meets it; None where it has no certificate or no fixed port."""
        smtp = self.intake.smtp
        if smtp.tls_certificate is None:
            return None
        found = (host_port(text) for text in smtp.listen)
        host, port = next(((h, p) for h, p in found if p), ("", 0))
        near = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
        return Endpoint(near, port, "encrypt", revocation=False) if port else None

    def destination_named(self, name: str) -> Destination:
        """The destination of that name; KeyError when there is none."""
        return next((d for d in self.destination if d.name == name), None) or _missing(name)


def load(path: str | Path) -> Config:
    """The config in a file, whole and checked.

    Raises ConfigError with all its problems, UsageError when the file can't be read. Makes nothing: no
    folder, no file.
    """
    path = Path(path)
    raw = read_tables(path)
    problems: list[str] = []
    tables: Tables | None = None
    try:
        tables = TypeAdapter(Tables).validate_python(raw)
    except ValidationError as error:
        problems += problems_of(error, raw, Tables)
    problems += between_tables(raw, path.parent)
    if tables and tables.journal.attempt_floor > tables.journal.intake_floor:
        problems.append("journal.attempt_floor: is above intake_floor; outcomes need room that intake leaves")
    if problems or tables is None:
        raise ConfigError([f"{path}: {line}" for line in sorted(set(problems), key=_file_order(raw))])
    return _put_together(path, tables)


def _put_together(path: Path, tables: Tables) -> Config:
    base = path.absolute().parent
    whole = _absolute(tables, base)
    destinations = tuple(
        d if d.resubmit else d.model_copy(update={"resubmit": d.handoff}) for d in whole.destination
    )
    warnings = [f"{path}: {name}: is not read yet" for name in known_tables(tables, LATER)]
    if whole.evidence.graph is not None:
        warnings += [f"{path}: {line}" for line in of_graph(whole.evidence.graph)]
    if not whole.route:
        warnings.append(f"{path}: route: there is none; every recipient gets 550 5.4.4")
    elif not destinations:
        warnings.append(f"{path}: destination: there is none; every recipient gets 550 5.4.4")
    return Config(
        path=path.absolute(),
        journal=whole.journal,
        intake=whole.intake,
        route=tuple(whole.route),
        destination=destinations,
        evidence=whole.evidence,
        recovery=whole.recovery,
        retention=whole.retention,
        web=whole.web if whole.web and whole.web.listen else None,
        log=whole.log,
        tables=whole.model_copy(update={"destination": list(destinations)}),
        warnings=tuple(warnings),
    )


def _absolute(model: M, base: Path) -> M:
    """The table with every path in it made absolute against `base`, tables below included."""
    changed: dict[str, Any] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Path):
            changed[name] = base / value
        elif isinstance(value, BaseModel):
            changed[name] = _absolute(value, base)
        elif isinstance(value, list) and value and isinstance(value[0], BaseModel):
            changed[name] = [_absolute(item, base) for item in value]
    return model.model_copy(update=changed)


def _file_order(raw: dict[str, Any]) -> Callable[[str], tuple[int, str]]:
    """Sorts problems as their tables stand in the file."""
    order = {name: i for i, name in enumerate(raw)}
    return lambda line: (order.get(re.split(r"[.:\[]", line, maxsplit=1)[0], len(order)), line)


def _missing(name: str) -> Any:
    raise KeyError(name)
