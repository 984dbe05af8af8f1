"""Makes certificates: the one door to `cryptography`.

ECDSA on P-256, signed with SHA-256. A CA signs nothing but ends; an end is a replica (server and client) or a client.
Keys are not encrypted: they are read by processes that start by themselves, and protected by the file's mode.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from raftalloc.errors import ConfigError
from raftalloc.security.names import REPLICA, Identity, identity_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_SKEW: Final = datetime.timedelta(minutes=5)
"""A certificate is good from so long ago, since clocks differ."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Described:
    """A certificate, for people. Times are seconds since the Unix epoch."""

    subject: str
    issuer: str
    identity: Identity | None
    is_ca: bool
    addresses: tuple[str, ...]
    serial: str
    from_s: int
    until_s: int
    fingerprint: str


def make_ca(cluster_id: str, *, now_s: int, days: int) -> Pair:
    """A new CA for a group, good for `days` from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"raftalloc CA of {cluster_id}")])
    public = key.public_key()
    builder = (
        _between(now_s, _moment(now_s) + datetime.timedelta(days=days))
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    return Pair(_pem(builder.sign(key, hashes.SHA256())), _key_pem(key))


def make_end(
    ca: Pair, identity: Identity, *, addresses: Sequence[str], now_s: int, days: int
) -> Pair:
    """A certificate for a replica (reachable at those IP addresses) or a client, never beyond the CA's own end."""
    issuer, issuer_key = _load(ca.certificate), _load_key(ca.key)
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri)]
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if identity.role == REPLICA:
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        names.append(x509.DNSName(identity.name))
        uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
    issuer_id = x509.SubjectKeyIdentifier.from_public_key(issuer_key.public_key())
    until = min(_moment(now_s) + datetime.timedelta(days=days), issuer.not_valid_after_utc)
    builder = (
        _between(now_s, until)
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id),
            critical=False,
        )
    )
    return Pair(_pem(builder.sign(issuer_key, hashes.SHA256())), _key_pem(key))


def describe(pem: bytes, path: str) -> list[Described]:
    """The certificates of a PEM file, in its order. Raises ConfigError."""
    try:
        return [_described(each) for each in x509.load_pem_x509_certificates(pem)]
    except ValueError as error:
        raise ConfigError(f"{path}: holds no certificates: {error}") from error


def is_signed_by(pem: bytes, ca_pem: bytes) -> bool:
    """Whether the first certificate is of one of those CAs."""
    certificate = _load(pem)
    for ca in x509.load_pem_x509_certificates(ca_pem):
        try:
            certificate.verify_directly_issued_by(ca)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


def _between(now_s: int, until: datetime.datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(_moment(now_s) - _SKEW)
        .not_valid_after(until)
    )


def _moment(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _described(certificate: x509.Certificate) -> Described:
    uris: list[str] = []
    addresses: list[str] = []
    is_ca = False
    for extension in certificate.extensions:
        match extension.value:
            case x509.SubjectAlternativeName() as names:
                uris = names.get_values_for_type(x509.UniformResourceIdentifier)
                addresses = [str(ip) for ip in names.get_values_for_type(x509.IPAddress)]
            case x509.BasicConstraints(ca=ca):
                is_ca = ca
    return Described(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        identity=identity_of(uris),
        is_ca=is_ca,
        addresses=tuple(addresses),
        serial=f"{certificate.serial_number:x}",
        from_s=int(certificate.not_valid_before_utc.timestamp()),
        until_s=int(certificate.not_valid_after_utc.timestamp()),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _load(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"the CA's key is no EC key but {type(key).__name__}")
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
