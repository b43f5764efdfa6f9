"""A plain SMTP client for the lab: it sends what it is given and says where it failed.

It shares no code with the handoff. What the far side says is a value (`Answer`); a connection that can't be
made or breaks is `Broken`, with the step and Exchange Online's word for the reason.

Source: RFC 5321, RFC 3207.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from resubmit.lab.certs import subject_of, thumbprint
from resubmit.model.moment import Ms

_CERTIFICATE_FAULTS = {
    9: "NotYetValid",
    10: "CertificateExpired",
    18: "UntrustedRoot",
    19: "UntrustedRoot",
    20: "UntrustedRoot",
    21: "UnableToBuildChain",
    23: "Revoked",
}
"""OpenSSL's verify codes (x509_vfy.h) and what Exchange Online calls them (microsoft.md section 3.3)."""


class Broken(Exception):
    """The session could not be held. step: connect, greeting, starttls, handshake, certificate, session."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(f"{step}: {reason}")
        self.step = step
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Answer:
    """One reply: its code, and its lines joined by a blank, without the codes."""

    code: int
    text: str

    @property
    def good(self) -> bool:
        return self.code // 100 == 2

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class Client:
    """One connection. Open it with `connect`, end it with `quit` or `drop`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout: Ms) -> None:
        self._reader = reader
        self._writer = writer
        self._timeout = timeout
        self.keywords: set[str] = set()
        self.leaf = b""

    @classmethod
    async def connect(cls, host: str, port: int, *, name: str, timeout: Ms = 30_000) -> Client:
        """Connected, greeted and EHLO said. Raises Broken."""
        try:
            async with asyncio.timeout(timeout / 1000):
                reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
        except TimeoutError as error:
            raise Broken("connect", "timed out") from error
        except OSError as error:
            raise Broken("connect", "refused") from error
        client = cls(reader, writer, timeout)
        try:
            greeting = await client._answer("greeting")
            if greeting.code != 220:
                raise Broken("greeting", str(greeting))
            await client.ehlo(name)
        except Broken:
            client.drop()
            raise
        return client

    async def ehlo(self, name: str) -> None:
        """EHLO was answered; `keywords` are those of the answer. Raises Broken."""
        answer = await self.command(f"EHLO {name}")
        if not answer.good:
            raise Broken("session", str(answer))
        self.keywords = {line.split(" ")[0].upper() for line in answer.text.split("\n")[1:] if line}

    async def starttls(self, context: ssl.SSLContext, name: str) -> None:
        """TLS is up. Chain and dates are judged by the context; the name is not. Raises Broken."""
        answer = await self.command("STARTTLS")
        if answer.code != 220:
            raise Broken("starttls", str(answer))
        try:
            async with asyncio.timeout(self._timeout / 1000):
                await self._writer.start_tls(context, server_hostname=name)
        except ssl.SSLCertVerificationError as error:
            reason = _CERTIFICATE_FAULTS.get(error.verify_code, "CertificateInvalid")
            raise Broken("certificate", reason) from error
        except (OSError, EOFError, TimeoutError) as error:
            raise Broken("handshake", "ConnectionAborted") from error
        self.leaf = self._writer.get_extra_info("ssl_object").getpeercert(binary_form=True) or b""

    def names(self) -> list[str]:
        """The DNS names of the certificate seen (empty when its chain was not judged)."""
        seen = self._writer.get_extra_info("ssl_object").getpeercert() or {}
        return [value.lower() for kind, value in seen.get("subjectAltName", ()) if kind == "DNS"]

    async def send(
        self,
        sender: str,
        recipients: Sequence[str],
        data: bytes,
        *,
        parameters: str = "",
        rcpt_parameters: str = "",
    ) -> tuple[dict[str, Answer], Answer | None]:
        """One transaction: each recipient's reply, and the reply to the dot (None when none was taken).

        Raises Broken when the connection is lost on the way.
        """
        space = " " if parameters else ""
        mail = await self.command(f"MAIL FROM:<{sender}>{space}{parameters}")
        if not mail.good:
            return dict.fromkeys(recipients, mail), None
        space = " " if rcpt_parameters else ""
        replies = {r: await self.command(f"RCPT TO:<{r}>{space}{rcpt_parameters}") for r in recipients}
        if not any(answer.good for answer in replies.values()):
            await self.command("RSET")
            return replies, None
        go = await self.command("DATA")
        if go.code != 354:
            return replies, go
        # A CRLF in front makes the first line a line like the others.
        stuffed = (b"\r\n" + data).replace(b"\r\n.", b"\r\n..")[2:]
        end = b".\r\n" if data.endswith(b"\r\n") or not data else b"\r\n.\r\n"
        return replies, await self._said(stuffed + end, "session")

    async def command(self, line: str) -> Answer:
        """The reply to one command. Raises Broken."""
        return await self._said(line.encode() + b"\r\n", "session")

    async def quit(self) -> None:
        """The connection is over, whatever the far side thinks of it."""
        try:
            await self.command("QUIT")
        except Broken:
            pass
        self.drop()

    def drop(self) -> None:
        """The connection is cut."""
        self._writer.transport.abort()

    async def _said(self, octets: bytes, step: str) -> Answer:
        try:
            async with asyncio.timeout(self._timeout / 1000):
                self._writer.write(octets)
                await self._writer.drain()
        except (OSError, TimeoutError) as error:
            raise Broken(step, "lost") from error
        return await self._answer(step)

    async def _answer(self, step: str) -> Answer:
        lines: list[str] = []
        try:
            async with asyncio.timeout(self._timeout / 1000):
                while True:
                    line = (await self._reader.readuntil(b"\n")).decode("utf-8", "replace").rstrip("\r\n")
                    lines.append(line[4:])
                    if line[3:4] != "-":
                        return Answer(int(line[:3]), "\n".join(lines))
        except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError) as error:
            raise Broken(step, "lost") from error


def carries(names: Sequence[str], wanted: str) -> bool:
    """Whether a certificate with these names is for a connector's TlsDomain.

    A certificate's wildcard stands for one left-most label; `*.contoso.com` as TlsDomain takes that very
    wildcard or any name below it.
    """
    wanted = wanted.lower()
    if wanted.startswith("*."):
        return any(name.endswith(wanted[1:]) for name in names)
    return any(
        name == wanted or (name[:2] == "*." and wanted.partition(".")[2] == name[2:]) for name in names
    )


async def presented(host: str, port: int, *, name: str, timeout: Ms) -> tuple[str, str]:
    """Subject and thumbprint of the certificate a server shows, unjudged; "" twice when it shows none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # looked at for the report only; nothing is sent over it
    try:
        client = await Client.connect(host, port, name=name, timeout=timeout)
        try:
            await client.starttls(context, name)
        finally:
            client.drop()
    except Broken:
        return "", ""
    return subject_of(client.leaf), thumbprint(client.leaf)
