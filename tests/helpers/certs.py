"""A bench of certificate chains, good and bad in one way or several.

Keys are P-256, a server's RSA 2048, unless told otherwise, and made once a run: what is tested is what stands
on a certificate.
`trustme` makes the ordinary ones elsewhere; it can't make a CN without SAN, a weak key, another usage, a
self-signed leaf or an issuer that is no CA.
"""

from __future__ import annotations

import functools
import ipaddress
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

DAY = timedelta(days=1)


def now() -> datetime:
    """The present in whole seconds, as certificates have it."""
    return datetime.now(UTC).replace(microsecond=0)


@functools.cache
def key(label: str) -> Key:
    """A key of its own for each label; `rsa1024…` and `rsa2048…` are RSA."""
    if label.startswith("rsa"):
        return rsa.generate_private_key(65537, int(label[3:7]))
    return ec.generate_private_key(ec.SECP256R1())


def name(common: str, organisation: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)] if organisation else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common)])


@dataclass(frozen=True)
class Made:
    """A certificate with its key; `issuer` is who signed it, None for itself."""

    certificate: x509.Certificate
    key: Key
    issuer: Made | None = None

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def up(self) -> list[Made]:
        """Itself and its issuers, without the root, as a server should send them."""
        chain, one = [self], self.issuer
        while one is not None and one.issuer is not None:
            chain.append(one)
            one = one.issuer
        return chain


@dataclass(frozen=True)
class Order:
    """What a certificate is to be like. `starts`, `ends`: from now."""

    common: str = "mail.test.invalid"
    organisation: str = ""
    dns: Sequence[str] = ("mail.test.invalid",)
    addresses: Sequence[str] = ()
    has_san: bool = True
    starts: timedelta = -DAY
    ends: timedelta = 90 * DAY
    is_ca: bool = False
    path_length: int | None = None
    key: str = ""
    usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH
    policy: str = ""
    more: Sequence[tuple[x509.ExtensionType, bool]] = field(default=())


def make(order: Order, issuer: Made | None = None, at: datetime | None = None) -> Made:
    """A certificate as ordered, signed by `issuer` or by itself."""
    at = at or now()
    kind = "" if order.is_ca else "rsa2048 "
    own = key(order.key or f"{kind}key of {order.common}")
    subject = name(order.common, order.organisation)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at + order.starts)
        .not_valid_after(at + order.ends)
        .add_extension(x509.BasicConstraints(ca=order.is_ca, path_length=order.path_length), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
    )
    if issuer:
        parent = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(parent, critical=False)
    if order.has_san and not order.is_ca:
        names: list[x509.GeneralName] = [x509.DNSName(one) for one in order.dns]
        names += [x509.IPAddress(ipaddress.ip_address(one)) for one in order.addresses]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if order.usage is not None and not order.is_ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([order.usage]), critical=False)
    if order.policy:
        policy = x509.PolicyInformation(x509.ObjectIdentifier(order.policy), None)
        builder = builder.add_extension(x509.CertificatePolicies([policy]), critical=False)
    for extension, critical in order.more:
        builder = builder.add_extension(extension, critical)
    signer = issuer.key if issuer else own
    return Made(builder.sign(signer, hashes.SHA256()), own, issuer)


def root(common: str = "Test Root", organisation: str = "Test", **more: object) -> Made:
    return make(Order(common, organisation, is_ca=True, ends=3650 * DAY, **more))  # type: ignore[arg-type]


def intermediate(parent: Made, common: str = "Test Issuing CA", **more: object) -> Made:
    fields: dict[str, object] = {"organisation": "Test", "is_ca": True, "ends": 1825 * DAY, **more}
    return make(Order(common, **fields), parent)  # type: ignore[arg-type]


def leaf(issuer: Made | None, **more: object) -> Made:
    return make(Order(**more), issuer)  # type: ignore[arg-type]


def server_context(chain: Sequence[Made], *, seclevel: int = 2, ciphers: str = "") -> ssl.SSLContext:
    """A server's context that sends `chain`, whose first holds the key. ciphers: these, and TLS 1.2 alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if seclevel != 2:
        context.set_ciphers(f"ALL:@SECLEVEL={seclevel}")
    if ciphers:
        context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    add_chain(context, chain)
    return context


def add_chain(context: ssl.SSLContext, chain: Sequence[Made]) -> None:
    """The context shows this chain too: one of another kind of key stands beside what it has."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "server.pem"
        private = chain[0].key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(private + b"".join(one.pem for one in chain))
        context.load_cert_chain(path)
