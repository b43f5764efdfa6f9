"""The way to Graph: a token, and one answer a request.

Promises: what goes wrong over there is a Problem, never an exception; TLS is always verified; an answer has a
bounded size and time; the token is kept until shortly before its end and never leaves here, nor does the
secret. Redirects are not followed. The HTTP client is imported on use (the package's extra "graph").

Source: microsoft.md sections 1.1 and 1.4; OAuth 2.0 client credentials (RFC 6749 §4.4, RFC 7523 §2.2).
"""

from __future__ import annotations

import asyncio
import base64
import email.utils
import json
import secrets
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from resubmit.clock import Clock
from resubmit.errors import UsageError
from resubmit.evidence.graph_says import Problem, Step, Then, of_answer, of_token, retry_wait
from resubmit.evidence.settings import Graph
from resubmit.model.moment import MINUTE, SECOND, Ms, from_datetime

if TYPE_CHECKING:
    import httpx2

SCOPE_PATH = "/.default"
LARGEST = 64 << 20
_CONNECT, _WHOLE = 15 * SECOND, 120 * SECOND
_BEFORE_END = 5 * MINUTE
"""A token is renewed so long before it ends."""
_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came. problem: None where the body is an answer to what was asked. date: the server's clock, and
    at: ours, when the answer's head had come. requests: how many Graph has counted."""

    status: int
    body: bytes
    problem: Problem | None
    date: Ms | None
    at: Ms
    requests: int = 1


class GraphClient:
    """Asks Graph with the application's credentials. Used by one task at a time."""

    def __init__(self, settings: Graph, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._http: httpx2.AsyncClient | None = None
        self._token = ""
        self._ends: Ms = 0

    async def close(self) -> None:
        """Its connections end."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def get(self, url: str) -> Answer:
        """One page. A token that is no longer taken is renewed once."""
        problem = await self.sign_in()
        if problem is not None:
            return Answer(0, b"", problem, None, self._clock.now(), requests=0)
        answer = await self._ask(url)
        if answer.problem is not None and answer.problem.then is Then.RENEW:
            self._token = ""
            if (problem := await self.sign_in()) is not None:
                return replace(answer, problem=problem)
            answer = replace(await self._ask(url), requests=2)
        return answer

    async def sign_in(self) -> Problem | None:
        """A token is there; None, or why not. What is there already is kept until shortly before its end."""
        if self._token and self._clock.monotonic() < self._ends:
            return None
        try:
            form = self.credentials()
        except UsageError as error:
            return Problem(Step.FILES, Then.SETUP, error.message, error.hint)
        begun = self._clock.monotonic()
        answer = await self._send("POST", self._token_url, form)
        if answer.problem is not None:
            if answer.status:
                return of_token(answer.status, answer.body, answer.problem.wait)
            return answer.problem
        try:
            plain = json.loads(answer.body)
            token, lasts = str(plain["access_token"]), int(plain.get("expires_in") or 3600) * SECOND
        except (ValueError, KeyError, TypeError, RecursionError):
            return Problem(Step.TOKEN, Then.AGAIN, "the sign-in answered, but without a token")
        self._token = token
        self._ends = begun + max(lasts - _BEFORE_END, lasts // 2)
        return None

    @property
    def _token_url(self) -> str:
        tenant = quote(self._settings.tenant, safe="")
        return f"{self._settings.login.rstrip('/')}/{tenant}/oauth2/v2.0/token"

    def credentials(self) -> dict[str, str]:
        """The form of the sign-in: to be sent to `login` only. UsageError for files that can't be used."""
        parts = urlsplit(self._settings.endpoint)
        form = {
            "client_id": self._settings.client_id,
            "scope": f"{parts.scheme}://{parts.netloc}{SCOPE_PATH}",
            "grant_type": "client_credentials",
        }
        if self._settings.client_secret_file is not None:
            return form | {"client_secret": secret_of(self._settings.client_secret_file)}
        if self._settings.certificate_file is None:
            raise UsageError("[evidence.graph] has neither client_secret_file nor certificate_file")
        made = assertion(
            self._settings.certificate_file, self._settings.client_id, self._token_url, self._clock.now()
        )
        return form | {"client_assertion_type": _BEARER, "client_assertion": made}

    async def _ask(self, url: str) -> Answer:
        answer = await self._send("GET", url, None)
        if answer.problem is not None and answer.status:
            return replace(answer, problem=of_answer(answer.status, answer.body, answer.problem.wait))
        return answer

    async def _send(self, method: str, url: str, form: dict[str, str] | None) -> Answer:
        """One request. `problem` of an answer that is none: only how long to wait is told of it."""
        try:
            import httpx2
        except ImportError:
            text = "the package httpx2 is not installed"
            return self._none(
                Problem(Step.NETWORK, Then.SETUP, text, 'install resubmit with its extra "graph"')
            )
        if self._http is None:
            try:
                self._http = self._client()
            except (OSError, ValueError) as error:
                text = f"ca_file can't be used: {error}"
                return self._none(Problem(Step.FILES, Then.SETUP, text, "give PEM roots"))
        headers = {"Accept": "application/json"}
        if form is None:
            headers |= {"Authorization": f"Bearer {self._token}", "client-request-id": secrets.token_hex(16)}
            headers["Prefer"] = "include-unknown-enum-members"
        try:
            async with asyncio.timeout(_WHOLE / 1000):
                async with self._http.stream(method, url, data=form, headers=headers) as response:
                    at = self._clock.now()
                    body = bytearray()
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) > LARGEST:
                            text = f"the answer is larger than {LARGEST >> 20} MiB"
                            return self._none(Problem(Step.ANSWER, Then.AGAIN, text))
        except TimeoutError:
            text = f"no whole answer from {_host(url)} within {_WHOLE // SECOND} s"
            return self._none(Problem(Step.NETWORK, Then.AGAIN, text))
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, ValueError) as error:
            return self._none(unreachable(error, url))
        date = _http_date(response.headers.get("Date"))
        later = response.headers.get("Retry-After")
        problem = None
        if response.status_code != 200:
            wait = retry_wait(later, date, _http_date(later))
            problem = Problem(Step.ANSWER, Then.AGAIN, f"HTTP {response.status_code}", wait=wait)
        return Answer(response.status_code, bytes(body), problem, date, at)

    def _none(self, problem: Problem) -> Answer:
        return Answer(0, b"", problem, None, self._clock.now())

    def _client(self) -> httpx2.AsyncClient:
        import httpx2

        ca_file = self._settings.ca_file
        verify: Any = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
        return httpx2.AsyncClient(
            verify=verify,
            timeout=httpx2.Timeout(_WHOLE / 1000, connect=_CONNECT / 1000),
            limits=httpx2.Limits(max_connections=2, keepalive_expiry=60),
            follow_redirects=False,
            headers={"User-Agent": "resubmit"},
        )


def secret_of(path: Path) -> str:
    """The first line of a file. UsageError when it can't be read or is empty; says nothing of its content."""
    try:
        text = path.read_text("utf-8-sig").split("\n", 1)[0].strip()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UsageError(
            f"client_secret_file {path}: {why}", hint="this user must be able to read it"
        ) from None
    if not text or not text.isascii() or not text.isprintable():
        raise UsageError(
            f"client_secret_file {path}: its first line is no secret",
            hint="its first line is the secret's value",
        )
    return text


def assertion(path: Path, client_id: str, audience: str, now: Ms) -> str:
    """A signed statement of who we are, good for ten minutes (RFC 7523). UsageError for a PEM file that holds
    no certificate with its RSA key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

    hint = "a PEM file with the certificate and its RSA key, without a password"
    try:
        pem = path.read_bytes()
        certificate = x509.load_pem_x509_certificate(pem[max(pem.find(b"-----BEGIN CERTIFICATE"), 0) :])
        key = load_pem_private_key(b"".join(_private_parts(pem)), password=None)
    except OSError as error:
        raise UsageError(
            f"certificate_file {path}: {error.strerror}", hint="this user must be able to read it"
        ) from None
    except (ValueError, TypeError):
        raise UsageError(f"certificate_file {path}: no certificate and key in it", hint=hint) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise UsageError(f"certificate_file {path}: its key is not an RSA key", hint=hint)
    if (
        key.public_key().public_numbers()
        != getattr(certificate.public_key(), "public_numbers", lambda: None)()
    ):
        raise UsageError(f"certificate_file {path}: the key is not the certificate's", hint=hint)
    thumbprint = sha256(certificate.public_bytes(Encoding.DER)).digest()
    seconds = now // SECOND
    head = {"alg": "PS256", "typ": "JWT", "x5t#S256": _b64(thumbprint)}
    claims = {
        "aud": audience,
        "iss": client_id,
        "sub": client_id,
        "jti": secrets.token_hex(16),
        "nbf": seconds - 60,
        "exp": seconds + 600,
    }
    signed = f"{_b64(json.dumps(head).encode())}.{_b64(json.dumps(claims).encode())}"
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)
    return f"{signed}.{_b64(key.sign(signed.encode(), pss, hashes.SHA256()))}"


def _private_parts(pem: bytes) -> Iterator[bytes]:
    """The lines of the key among a PEM file's parts."""
    inside = False
    for line in pem.splitlines(keepends=True):
        inside = inside or (line.startswith(b"-----BEGIN") and b"PRIVATE KEY" in line)
        if inside:
            yield line
        if line.startswith(b"-----END"):
            inside = False


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unreachable(error: Exception, url: str) -> Problem:
    """Why a host gave no answer."""
    host = _host(url)
    causes: list[BaseException] = [error]
    while (below := causes[-1].__cause__ or causes[-1].__context__) is not None and below not in causes:
        causes.append(below)
    if any(isinstance(one, ssl.SSLCertVerificationError) for one in causes) or "CERTIFICATE_VERIFY" in str(
        error
    ):
        text = f"the certificate of {host} is not trusted here"
        advice = (
            "if a proxy inspects TLS, name its root in ca_file; else look at the public roots and the clock"
        )
        return Problem(Step.NETWORK, Then.SETUP, text, advice)
    if any(isinstance(one, socket.gaierror) for one in causes):
        return Problem(
            Step.NETWORK,
            Then.AGAIN,
            f"{host} has no address here",
            "check DNS, and the names in endpoint and login",
        )
    kind = type(error).__name__
    if "Timeout" in kind:
        return Problem(
            Step.NETWORK, Then.AGAIN, f"{host} did not answer in time", "a firewall must let 443/tcp out"
        )
    if "Connect" in kind or isinstance(error, OSError):
        text = f"no connection to {host}: {str(error)[:200] or kind}"
        return Problem(
            Step.NETWORK, Then.AGAIN, text, "a firewall must let 443/tcp out, or HTTPS_PROXY name a proxy"
        )
    return Problem(Step.NETWORK, Then.AGAIN, f"{host} broke off: {str(error)[:200] or kind}")


def _host(url: str) -> str:
    return urlsplit(url).hostname or url[:100]


def _http_date(text: str | None) -> Ms | None:
    """RFC 9110 §5.6.7, None for what is none."""
    if not text:
        return None
    try:
        return from_datetime(email.utils.parsedate_to_datetime(text))
    except (ValueError, TypeError, OverflowError):
        return None
