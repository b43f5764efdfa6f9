"""The hybrid Exchange server of the lab: it offers STARTTLS with a certificate that can be swapped.

What it takes is in its mailboxes at once, one copy a recipient.
"""

from __future__ import annotations

from resubmit.clock import Clock
from resubmit.lab.certs import Leaf
from resubmit.lab.mailbox import Mailboxes
from resubmit.lab.script import Mail, Script
from resubmit.lab.smtpd import ScriptedServer
from resubmit.model.envelope import address_key


class HybridServer(ScriptedServer):
    """Takes mail for `known` addresses (None: for all) into `mailboxes`."""

    def __init__(
        self,
        mailboxes: Mailboxes,
        leaf: Leaf | None,
        *,
        name: str,
        known: set[str] | None = None,
        clock: Clock | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        script = Script(name=name, greeting=f"220 {name} Microsoft ESMTP MAIL Service ready")
        script.rcpt, script.dot = self._rcpt, self._dot
        super().__init__(script, tls=leaf.context() if leaf else None, host=host, port=port, clock=clock)
        self.mailboxes = mailboxes
        self.known = known
        self.leaf = leaf

    def show(self, leaf: Leaf | None) -> None:
        """From now on new connections see this certificate; none: STARTTLS is not offered."""
        self.leaf = leaf
        self.tls = leaf.context() if leaf else None

    def _rcpt(self, address: str) -> str:
        if self.known is not None and address_key(address) not in self.known:
            return "550 5.1.1 RESOLVER.ADR.RecipNotFound; not found"
        return "250 2.1.5 Recipient OK"

    async def _dot(self, mail: Mail) -> str:
        for address, _ in mail.recipients:
            await self.mailboxes.put(address, mail.data, self.script.name)
        message_id = mail.header("Message-ID")
        return (
            f"250 2.6.0 {message_id} [InternalId={len(self.offered)}, Hostname={self.script.name}] "
            f"{len(mail.data)} bytes in 0.102, 12.006 KB/sec Queued mail for delivery"
        )
