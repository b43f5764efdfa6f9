"""Which destination a recipient belongs to, and which route a name means.

Promises: pure; the same address always gives the same destination: an exact domain before the longest
wildcard before `*`. Domains compare without case and without a trailing dot.

Limits: internationalised domains are compared as they are written; `bücher.example` and its A-label are
two entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from resubmit.errors import Refused
from resubmit.handoff.settings import Destination, Route
from resubmit.model.envelope import address_key, domain_of


class Table:
    """Routes and destinations by name, destinations by domain.

    `known`: for destinations with a recipients file, the addresses in it (as `address_key` writes them);
    others of that destination do not exist.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        destinations: Iterable[Destination],
        known: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        self.routes = {route.name: route for route in routes}
        self.destinations = {destination.name: destination for destination in destinations}
        self._known = dict(known or {})
        self._exact: dict[str, Destination] = {}
        self._below: dict[str, Destination] = {}
        self._rest: Destination | None = None
        for destination in self.destinations.values():
            for domain in destination.domains:
                self._file(domain.lower().rstrip("."), destination)

    def _file(self, domain: str, destination: Destination) -> None:
        # The first one wins: the config check reports a domain that stands in two destinations.
        if domain == "*":
            self._rest = self._rest or destination
        elif domain.startswith("*."):
            self._below.setdefault(domain[2:], destination)
        else:
            self._exact.setdefault(domain, destination)

    def destination_of(self, address: str) -> Destination | None:
        """Where mail for an address ends; None when no destination takes its domain."""
        domain = domain_of(address)
        if found := self._exact.get(domain):
            return found
        # From the longest parent to the shortest: the first hit is the longest wildcard.
        parent = domain
        while parent:
            _, _, parent = parent.partition(".")
            if found := self._below.get(parent):
                return found
        return self._rest

    def route(self, name: str) -> Route:
        """The route of that name. KeyError when the config has none (the config check refuses that)."""
        return self.routes[name]

    def handoff_of(self, destination: Destination) -> Route:
        """The route of the first attempt."""
        return self.routes[destination.handoff]

    def resubmit_of(self, destination: Destination) -> Route:
        """The route of a resubmission; that of the handoff where none is named."""
        return self.routes[destination.resubmit or destination.handoff]

    def vet(self, address: str) -> Refused | None:
        """What a client is told at RCPT: None when mail for the address is taken, else the refusal."""
        destination = self.destination_of(address)
        if destination is None:
            return Refused(550, "5.4.4", "no destination takes mail for this domain")
        known = self._known.get(destination.name)
        if known is not None and address_key(address) not in known:
            return Refused(550, "5.1.1", "no such recipient")
        return None


def known_recipients(text: str) -> frozenset[str]:
    """The addresses of a recipients file: one a line, `#` begins a comment, blank lines are skipped."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return frozenset(address_key(line) for line in lines if line)
