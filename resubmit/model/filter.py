"""One filter for commands, API and stored jobs.

A repeated flag is OR, different flags are AND, `*` globs, texts compare without case.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from resubmit.model.moment import Ms


@dataclass(frozen=True, slots=True)
class Filter:
    """Which recipients of which messages. Times in ms UTC on the message's `received_at`.

    ids: message ids (numbers). older_than: minimum age of the recipient's state. expiring_in: at most so
    long before its deadline. Empty tuples and None ask for nothing.
    """

    ids: tuple[int, ...] = ()
    sender: tuple[str, ...] = ()
    recipient: tuple[str, ...] = ()
    domain: tuple[str, ...] = ()
    message_id: tuple[str, ...] = ()
    subject: tuple[str, ...] = ()
    cause: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    destination: tuple[str, ...] = ()
    incident: tuple[int, ...] = ()
    older_than: Ms | None = None
    expiring_in: Ms | None = None
    since: Ms | None = None
    until: Ms | None = None
    stuck: bool = False

    def is_empty(self) -> bool:
        """Whether it asks for nothing at all, so that everything would match."""
        return self == Filter()

    def to_plain(self) -> dict[str, object]:
        """Only what was asked for, as JSON can hold it."""
        # By identity: 0 ms is asked for, though 0 == False.
        asked = {k: v for k, v in asdict(self).items() if v != () and v is not None and v is not False}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asked.items()}

    @classmethod
    def from_plain(cls, plain: dict[str, object]) -> Filter:
        """The filter `to_plain` described. ValueError names an unknown field."""
        known = {f.name for f in fields(cls)}
        if unknown := set(plain) - known:
            raise ValueError(f"unknown filter {sorted(unknown)[0]!r}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()})  # type: ignore[arg-type]
