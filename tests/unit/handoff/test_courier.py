"""The door to aiosmtplib: every class of error it has is mapped, and what we use of its insides is there."""

from __future__ import annotations

import asyncio
import gc
import inspect
import ssl

import aiosmtplib
import pytest
from aiosmtplib import errors
from aiosmtplib.protocol import SMTPProtocol

from resubmit.clock import SystemClock
from resubmit.handoff.courier import _DOOR, Connection, in_words, reach
from resubmit.model.attempt import Stage
from tests.unit.handoff.post import route


def an(kind: type[BaseException]) -> BaseException:
    """An instance, however many arguments it wants."""
    given = {"code": 550, "message": "5.7.1 no", "sender": "a", "recipient": "b", "recipients": []}
    names = list(inspect.signature(kind.__init__).parameters)[1:]
    return kind(*[given[name] for name in names if name in given])


CLASSES = sorted({getattr(errors, name) for name in errors.__all__}, key=lambda kind: kind.__name__)


def test_aiosmtplib_has_no_error_outside_its_list() -> None:
    found = {
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, BaseException) and kind.__module__ == errors.__name__
    }
    assert found == set(CLASSES)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_of_aiosmtplib_comes_through_the_door(kind: type[BaseException]) -> None:
    error = an(kind)
    assert isinstance(error, _DOOR)
    connection = Connection(aiosmtplib.SMTP(), route(25), SystemClock(), "hop[192.0.2.1]:25")
    stop = connection.told(Stage.MAIL, error)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        assert stop.reply is not None
        assert stop.reply.line() == "550 5.7.1 no"
    else:
        assert stop.text.startswith("hop[192.0.2.1]:25: ")
        assert len(stop.text) > len("hop[192.0.2.1]:25: ")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connect call failed"), "connection refused"),
        (ConnectionResetError(104, "Connection reset by peer"), "connection reset"),
        (OSError(113, "No route to host"), "no route to host"),
        (TimeoutError(), "timed out"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "handshake failed"),
        (BrokenPipeError(32, "Broken pipe"), "broken pipe"),
        (aiosmtplib.SMTPResponseException(-1, "Malformed SMTP response line: hello"), "no SMTP reply"),
    ],
)
def test_errors_of_the_wire_are_told_in_words(error: BaseException, words: str) -> None:
    assert isinstance(error, _DOOR)
    assert words in in_words(error, "hop")


def test_an_alert_behind_a_lost_connection_is_told() -> None:
    lost = aiosmtplib.SMTPServerDisconnected("Connection lost")
    alert = ssl.SSLError(1, "alert")
    alert.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    lost.__cause__ = alert
    assert "wants a client certificate" in in_words(lost, "hop")


def test_what_is_used_of_aiosmtplibs_insides_is_there() -> None:
    """Pinned below 6: this fails when 5.x moves them."""
    assert aiosmtplib.__version__.split(".")[0] == "5"
    assert inspect.iscoroutinefunction(SMTPProtocol._drain_helper)
    source = inspect.getsource(SMTPProtocol.__init__) + inspect.getsource(SMTPProtocol.__mro__[1])
    for name in ("_buffer", "_paused"):
        assert f"self.{name} = " in source
    assert "upgrading transport" in inspect.getsource(SMTPProtocol.start_tls)
    assert "_response_pending" in inspect.getsource(SMTPProtocol.read_response)


async def test_a_connect_that_fails_while_its_caller_is_cancelled_complains_to_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))

    async def connect(*_: object, **__: object) -> None:
        loop.call_soon(callers[0].cancel)  # runs before the caller hears of the failure
        raise aiosmtplib.SMTPConnectError("refused")

    monkeypatch.setattr(aiosmtplib.SMTP, "connect", connect)
    way = reach(route(25), "127.0.0.1", ehlo_name="us.invalid", context=None, clock=SystemClock())
    callers = [asyncio.ensure_future(way)]
    with pytest.raises(asyncio.CancelledError):
        await callers[0]
    callers.clear()
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []
