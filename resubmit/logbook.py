"""The closed list of log lines: every event the service can log, by name.

`step.past_tense`; `info` means a state changed, `warning` that a person may look, `error` that a person
must. A line never holds a body, a subject or a secret. docs/logbook.md is drawn from this file.
"""

from __future__ import annotations

# service
SERVICE_STARTED = "service.started"
"""The service takes mail; with the SQLite and package versions and the addresses."""
SERVICE_STOPPING = "service.stopping"
"""A signal or a fatal error asked the service to stop."""
SERVICE_STOPPED = "service.stopped"
"""Everything is written and closed."""
SERVICE_FAILED = "service.failed"
"""A loop ended with an error nobody expected; the service stops so that nothing is lost quietly."""
CONFIG_WARNED = "config.warned"
"""A table of the config is valid, and its feature is not there yet."""
SQLITE_UNSOUND = "sqlite.unsound"
"""This SQLite has the WAL-reset bug; see docs/configuration.md."""
