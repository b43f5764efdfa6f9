"""What a result means for the recipient's table."""

from __future__ import annotations

from itertools import product

import pytest

from resubmit.handoff import prepare
from resubmit.handoff.events import event_of, is_beyond_mending, own_meaning, tally, weigh
from resubmit.model.attempt import Handed, Offered, Result, Stage
from resubmit.model.evidence import Cause, Meaning, Mend, Scope
from resubmit.model.recipient import Event
from resubmit.model.reply import Reply

HANDED = Handed(())


def refused(reply: Reply | None = None, text: str = "", stage: Stage = Stage.RCPT) -> Offered:
    return Offered(0, Result.REFUSED, stage, reply, text)


@pytest.mark.parametrize(
    ("cause", "scope", "mend", "sign", "expected"),
    [
        (Cause.RECIPIENT, Scope.RECIPIENT, Mend.NEVER, "user_unknown", True),
        (Cause.RECIPIENT, Scope.RECIPIENT, Mend.PERSON, "user_unknown", True),
        (Cause.SIZE, Scope.MESSAGE, Mend.PERSON, "too_large", True),
        (Cause.CONTENT, Scope.MESSAGE, Mend.PERSON, "bare_newline", True),
        (Cause.POLICY, Scope.MESSAGE, Mend.PERSON, "policy", True),
        (Cause.OTHER, Scope.MESSAGE, Mend.PERSON, "", False),
        (Cause.RECIPIENT, Scope.RECIPIENT, Mend.NEVER, "", False),
        (Cause.MAILBOX, Scope.RECIPIENT, Mend.PERSON, "mailbox_full", False),
        (Cause.POLICY, Scope.ROUTE, Mend.PERSON, "attributed_to_nobody", False),
        (Cause.POLICY, Scope.ROUTE, Mend.NEVER, "x", False),
        (Cause.BLOCKLIST, Scope.DESTINATION, Mend.NEVER, "x", False),
        (Cause.TLS, Scope.ROUTE, Mend.GATE, "starttls_required", False),
        (Cause.THROTTLE, Scope.MESSAGE, Mend.TIME, "x", False),
    ],
)
def test_a_refusal_is_final_only_when_it_is_known_to_be(
    cause: Cause, scope: Scope, mend: Mend, sign: str, expected: bool
) -> None:
    meaning = Meaning(cause, scope, mend, sign=sign)
    assert is_beyond_mending(meaning) is expected
    event = event_of(refused(Reply(550, "5.0.0 no")), meaning, final=False)
    assert event is (Event.REPLY_REFUSED if expected else Event.REPLY_REFUSED_MENDABLE)


def test_whatever_is_of_a_route_or_destination_can_be_mended() -> None:
    for cause, scope, mend in product(Cause, (Scope.ROUTE, Scope.DESTINATION), Mend):
        assert not is_beyond_mending(Meaning(cause, scope, mend, sign="known"))


@pytest.mark.parametrize(
    ("result", "final", "event"),
    [
        (Result.ACCEPTED, False, Event.REPLY_ACCEPTED),
        (Result.ACCEPTED, True, Event.REPLY_FINAL),
        (Result.DEFERRED, True, Event.REPLY_DEFERRED),
        (Result.LOST, True, Event.REPLY_LOST),
    ],
)
def test_the_other_results(result: Result, final: bool, event: Event) -> None:
    meaning = Meaning(Cause.OTHER, Scope.MESSAGE, Mend.TIME)
    assert event_of(Offered(0, result, Stage.DOT), meaning, final=final) is event


@pytest.mark.parametrize(
    ("text", "cause", "scope", "event"),
    [
        (prepare.NEEDS_SMTPUTF8, Cause.CONTENT, Scope.ROUTE, Event.REPLY_REFUSED_MENDABLE),
        (f"{prepare.TOO_LARGE} (9 > 8)", Cause.SIZE, Scope.MESSAGE, Event.REPLY_REFUSED),
        (f"{prepare.BAD_ADDRESS}: x", Cause.RECIPIENT, Scope.RECIPIENT, Event.REPLY_REFUSED),
        (f"{prepare.BARE_NEWLINE}: x", Cause.CONTENT, Scope.MESSAGE, Event.REPLY_REFUSED),
    ],
)
def test_our_own_refusals_mean_what_they_say(text: str, cause: Cause, scope: Scope, event: Event) -> None:
    weighed = weigh(refused(text=text), HANDED, final=False)
    assert weighed.meaning is not None
    assert (weighed.meaning.cause, weighed.meaning.scope, weighed.event) == (cause, scope, event)
    assert weighed.meaning.mend is Mend.PERSON  # closes no gate
    assert weighed.why == text
    assert not weighed.again


def test_a_hops_own_reply_is_no_refusal_of_ours() -> None:
    assert own_meaning(refused(Reply(550, prepare.NEEDS_SMTPUTF8))) is None


def test_an_unknown_5xx_is_shown_and_never_settled() -> None:
    weighed = weigh(refused(Reply(550, "computer says no")), HANDED, final=False)
    assert weighed.event is Event.REPLY_REFUSED_MENDABLE
    assert weighed.meaning is not None
    assert weighed.meaning.cause is Cause.OTHER
    assert weighed.why == "550 computer says no"


def test_no_such_user_is_settled() -> None:
    weighed = weigh(
        refused(
            Reply(550, "5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup")
        ),
        HANDED,
        final=False,
    )
    assert weighed.event is Event.REPLY_REFUSED


def test_accepted_means_nothing_more() -> None:
    offered = Offered(0, Result.ACCEPTED, Stage.DOT, Reply(250, "2.0.0 ok"), "sent in clear: x")
    weighed = weigh(offered, HANDED, final=True)
    assert (weighed.event, weighed.meaning, weighed.again) == (Event.REPLY_FINAL, None, False)
    assert weighed.why == "250 2.0.0 ok; sent in clear: x"


def test_a_throttle_is_told_and_tried_again() -> None:
    offered = Offered(
        0, Result.DEFERRED, Stage.MAIL, Reply(451, "4.7.500 Server busy. Please try again later")
    )
    weighed = weigh(offered, HANDED, final=False)
    assert weighed.throttled
    assert weighed.again
    assert weighed.event is Event.REPLY_DEFERRED


@pytest.mark.parametrize("stage", [Stage.EHLO, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.BODY])
def test_a_broken_connection_is_the_routes_and_mends_with_time(stage: Stage) -> None:
    offered = Offered(0, Result.DEFERRED, stage, text="hop[192.0.2.1]:25: the connection was lost")
    meaning = weigh(offered, HANDED, final=False).meaning
    assert meaning is not None
    assert (meaning.cause, meaning.scope, meaning.mend) == (Cause.CONNECTION, Scope.ROUTE, Mend.TIME)


@pytest.mark.parametrize(
    ("stage", "text", "handed", "cause"),
    [
        (Stage.CONNECT, "hop: connection refused", Handed((), unreachable=True), Cause.CONNECTION),
        (Stage.LOOKUP, "hop: the name has no address", Handed((), unreachable=True), Cause.CONNECTION),
        (Stage.STARTTLS, "hop: STARTTLS is not offered", Handed((), tls_below=True), Cause.TLS),
        (
            Stage.TLS,
            "TLS with hop: the certificate, or one above it, has expired",
            Handed((), tls_below=True),
            Cause.TLS,
        ),
    ],
)
def test_a_route_that_fails_before_mail_is_the_gates_business(
    stage: Stage, text: str, handed: Handed, cause: Cause
) -> None:
    meaning = weigh(Offered(0, Result.DEFERRED, stage, text=text), handed, final=False).meaning
    assert meaning is not None
    assert (meaning.cause, meaning.scope, meaning.mend) == (cause, Scope.ROUTE, Mend.GATE)


def test_454_to_starttls_is_a_tls_fault_of_the_route() -> None:
    offered = Offered(0, Result.DEFERRED, Stage.STARTTLS, Reply(454, "4.7.0 TLS not available"))
    meaning = weigh(offered, Handed((), tls_below=True), final=False).meaning
    assert meaning is not None
    assert (meaning.cause, meaning.scope) == (Cause.TLS, Scope.ROUTE)


def test_a_no_before_mail_never_concerns_the_mail_alone() -> None:
    for reply in (Reply(554, "5.7.1 no"), Reply(535, "5.7.8 authentication failed"), Reply(421, "busy")):
        for stage in (Stage.GREETING, Stage.EHLO, Stage.AUTH):
            meaning = weigh(Offered(0, Result.DEFERRED, stage, reply), HANDED, final=False).meaning
            assert meaning is not None
            assert meaning.scope is Scope.ROUTE


def test_a_body_the_journal_can_not_give_is_no_fault_of_the_connection() -> None:
    offered = Offered(0, Result.DEFERRED, Stage.BODY, text=f"{prepare.BODY_UNREADABLE}: I/O error")
    meaning = weigh(offered, HANDED, final=False).meaning
    assert meaning is not None
    assert meaning.cause is not Cause.CONNECTION


def test_results_are_counted() -> None:
    offered = [Offered(n, r, Stage.DOT) for n, r in enumerate([Result.LOST, Result.LOST, Result.REFUSED])]
    assert tally(offered) == {"lost": 2, "refused": 1}
