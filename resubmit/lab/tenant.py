"""Who is who in the lab's tenant: cloud mailboxes, hybrid mailboxes, groups, and nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from resubmit.model.envelope import address_key, domain_of


class Kind(StrEnum):
    """Where an address leads."""

    CLOUD = "cloud"
    HYBRID = "hybrid"
    GROUP = "group"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Tenant:
    """The directory. Addresses are compared as Exchange does, without case.

    `domains` are the accepted domains; mail for others is not relayed.
    """

    domains: frozenset[str]
    cloud: set[str] = field(default_factory=set)
    hybrid: set[str] = field(default_factory=set)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        domains: Iterable[str],
        *,
        cloud: Iterable[str] = (),
        hybrid: Iterable[str] = (),
        groups: Mapping[str, Iterable[str]] | None = None,
    ) -> Tenant:
        """A directory from addresses as people write them."""
        return cls(
            frozenset(d.lower() for d in domains),
            {address_key(a) for a in cloud},
            {address_key(a) for a in hybrid},
            {address_key(g): tuple(members) for g, members in (groups or {}).items()},
        )

    def accepts(self, address: str) -> bool:
        """Whether its domain is an accepted one."""
        return domain_of(address) in self.domains

    def kind(self, address: str) -> Kind:
        """Where it leads."""
        key = address_key(address)
        if key in self.groups:
            return Kind.GROUP
        if key in self.cloud:
            return Kind.CLOUD
        return Kind.HYBRID if key in self.hybrid else Kind.UNKNOWN

    def members(self, address: str) -> tuple[str, ...]:
        """The direct members of a group."""
        return self.groups.get(address_key(address), ())

    def mailboxes(self, addresses: Iterable[str]) -> set[str]:
        """The mailboxes behind these addresses, groups opened all the way, unknown ones left out."""
        found: set[str] = set()
        seen: set[str] = set()
        waiting = [address_key(a) for a in addresses]
        while waiting:
            address = waiting.pop()
            if address in seen:
                continue
            seen.add(address)
            match self.kind(address):
                case Kind.GROUP:
                    waiting += [address_key(a) for a in self.members(address)]
                case Kind.CLOUD | Kind.HYBRID:
                    found.add(address)
                case Kind.UNKNOWN:
                    pass
        return found
