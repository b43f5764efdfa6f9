"""What is offered to a next hop in one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Letter:
    """`sender` and `parameters` of MAIL; `recipients` as (n, address, parameters of RCPT), all to be sent to.

    `head`: our trace field, put on top. `size`: octets of the body that `open_body` yields, without the
    head. `key`: `<journal id>.<n>`, our name for the attempt; `no`: its number.
    """

    sender: str
    parameters: tuple[str, ...]
    recipients: tuple[tuple[int, str, tuple[str, ...]], ...]
    head: bytes
    size: int
    open_body: Callable[[], AsyncIterator[bytes]]
    key: str
    no: int
