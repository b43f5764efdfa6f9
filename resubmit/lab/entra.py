"""The sign-in of the lab's tenant: tokens for one application, by secret or certificate.

Source: microsoft.md section 1.1; RFC 6749 §4.4, RFC 7523 §3.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from resubmit.clock import Clock
from resubmit.model.moment import SECOND, Ms


@dataclass(slots=True)
class SignIn:
    """Who may have a token. fails: statuses that the next sign-ins get; lasts: how long a token is good;
    skew: how far its clock is ahead. `count` counts the tokens given."""

    clock: Clock
    tenant: str = "contoso.invalid"
    client_id: str = "11111111-2222-4333-8444-555555555555"
    secret: str = "lab~Secret.Value"  # noqa: S105 - the lab's own
    certificate: bytes | None = None
    secret_expired: bool = False
    fails: list[int] = field(default_factory=list)
    lasts: Ms = 3_599 * SECOND
    skew: Ms = 0
    count: int = 0
    _valid: dict[str, Ms] = field(default_factory=dict)

    def takes(self, token: str) -> bool:
        """Whether a token is one of those given, and not over."""
        return self._valid.get(token, 0) > self.clock.now()

    def answer(self, target: str, body: bytes, address: str) -> tuple[int, dict[str, Any]]:
        """Status and answer of a request for a token; `address`: where the tenant's services are."""
        form = {key: values[-1] for key, values in parse_qs(body.decode()).items()}
        if self.fails:
            return self.fails.pop(0), {"error": "temporarily_unavailable"}
        if wrong := self._wrong(target, form, address):
            status, code, text = wrong
            ids = "Trace ID: 0b0a Correlation ID: 0c0d Timestamp: 2026-11-24 05:00:00Z"
            description = f"AADSTS{code}: {text} {ids}"
            return status, {
                "error": "invalid_client",
                "error_description": description,
                "error_codes": [code],
            }
        self.count += 1
        token = f"lab-token-{self.count}"
        self._valid[token] = self.clock.now() + self.lasts
        return 200, {"token_type": "Bearer", "expires_in": self.lasts // SECOND, "access_token": token}

    def _wrong(self, target: str, form: dict[str, str], address: str) -> tuple[int, int, str] | None:
        if target != f"/{self.tenant}/oauth2/v2.0/token":
            return 400, 90002, f"Tenant '{target.split('/')[1]}' not found."
        if form.get("client_id") != self.client_id:
            return 400, 700016, f"Application with identifier '{form.get('client_id')}' was not found."
        if form.get("scope") != f"{address}/.default" or form.get("grant_type") != "client_credentials":
            return 400, 70011, "The provided value for the input parameter 'scope' is not valid."
        if "client_assertion" in form:
            return self._wrong_assertion(form["client_assertion"], f"{address}{target}")
        if "client_secret" not in form:
            return 401, 7000218, "The request body must contain 'client_assertion' or 'client_secret'."
        if form["client_secret"] != self.secret:
            return 401, 7000215, "Invalid client secret provided. Ensure the secret being sent is the value."
        if self.secret_expired:
            return 401, 7000222, f"The provided client secret keys for app '{self.client_id}' are expired."
        return None

    def _wrong_assertion(self, assertion: str, audience: str) -> tuple[int, int, str] | None:
        """RFC 7523 §3, as Entra judges it: signed by the application's certificate, for us, and in time."""
        unknown = (
            401,
            700027,
            "The certificate with identifier used to sign the client assertion is not registered.",
        )
        if self.certificate is None:
            return unknown
        known = x509.load_pem_x509_certificate(self.certificate)
        head, claims, signature = (unb64(part) for part in assertion.split("."))
        said, told = json.loads(head), json.loads(claims)
        thumbprint = sha256(known.public_bytes(Encoding.DER)).digest()
        public = known.public_key()
        if said.get("alg") != "PS256" or unb64(said["x5t#S256"]) != thumbprint:
            return unknown
        assert isinstance(public, rsa.RSAPublicKey)
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
        try:
            public.verify(signature, assertion.rpartition(".")[0].encode(), pss, hashes.SHA256())
        except InvalidSignature:
            return unknown
        now = (self.clock.now() + self.skew) // SECOND
        if not told["nbf"] - 300 <= now <= told["exp"] + 300:
            return 401, 700024, "Client assertion is not within its valid time range."
        if told["aud"] != audience or told["iss"] != told["sub"] or told["sub"] != self.client_id:
            return 401, 7000213, "Invalid audience or subject of the assertion."
        return None


def unb64(text: str) -> bytes:
    """base64url without its padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
