"""`explain`'s object: what the source does not say is null."""

from __future__ import annotations

from resubmit.model.evidence import Cause, Evidence, Holder, Meaning, Mend, Scope, Source, Status, Unreadable
from resubmit.view.evidence import evidence_object, unreadable_object


def test_what_is_not_said_is_null() -> None:
    plain = evidence_object(Evidence(Source.SMTP, Status.NONE))

    assert {k: v for k, v in plain.items() if v is not None} == {"source": "smtp", "status": "none"}


def test_what_is_said_is_there() -> None:
    meaning = Meaning(Cause.TLS, Scope.DESTINATION, Mend.GATE, "renew it")
    evidence = Evidence(
        Source.TRACE_CSV,
        Status.DEFERRED,
        recipient="ann@contoso.com",
        observed_at=0,
        code=450,
        enhanced_code="4.7.320",
        holder=Holder.FAR,
        meaning=meaning,
    )

    plain = evidence_object(evidence)

    assert plain["observed_at"] == "1970-01-01T00:00:00.000Z"
    assert (plain["cause"], plain["advice"], plain["holder"]) == ("tls", "renew it", "far")
    assert (plain["code"], plain["enhanced_code"]) == (450, "4.7.320")


def test_an_unreadable_item_has_its_reason() -> None:
    assert unreadable_object(Unreadable("f", "line 1", "why")) == {
        "file": "f",
        "place": "line 1",
        "reason": "why",
    }
