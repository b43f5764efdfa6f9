"""The next hop of tests: the lab's scripted server, under the name tests know it by."""

from __future__ import annotations

from resubmit.lab.smtpd import STEPS, Cut, Hang, Mail, Script, ScriptedServer

__all__ = ["STEPS", "Cut", "Hang", "Mail", "Script", "ScriptedServer"]
