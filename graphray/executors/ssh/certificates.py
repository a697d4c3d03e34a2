"""Certificates: who may talk to whom in one run.

The driver makes an authority for the run, and signs one certificate for itself and one for each node. All sides ask for
the other's, and trust no other authority. The authority's key stays in the driver's memory; a node's key reaches it
over the SSH connection, and is in the memory of its processes only.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import ssl
import tempfile

from distributed.security import Security

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NamedTuple

    class Credentials(NamedTuple):
        """What one side needs, each in PEM."""

        authority: str
        certificate: str
        key: str

else:
    from collections import namedtuple

    Credentials = namedtuple("Credentials", ("authority", "certificate", "key"))

LIFE = datetime.timedelta(days=3650)  # a run may be long; the keys are gone with it
SLACK = datetime.timedelta(days=1)  # by which the clock of a node may be late


class Authority:
    """Signs certificates; lives in the driver."""

    def __init__(self) -> None:
        self._key = _new_key()
        self._name = "graphray run"
        self._certificate = self._sign(self._name, self._key, authority=True)

    def credentials(self, name: str) -> Credentials:
        """A new key and its certificate.

        Args:
            name: whose; for people who look at it.
        """
        from cryptography.hazmat.primitives import serialization

        key = _new_key()
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Credentials(_pem(self._certificate), _pem(self._sign(name, key)), secret.decode())

    def _sign(self, name: str, key: Any, authority: bool = False) -> Any:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import NameOID

        def named(text: str) -> Any:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])

        now = datetime.datetime.now(datetime.UTC)
        public, mine = key.public_key(), self._key.public_key()
        usage = x509.KeyUsage(not authority, False, False, False, False, authority, authority, False, False)
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(self._name))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SLACK)
            .not_valid_after(now + LIFE)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(mine), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256())


def _new_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _pem(certificate: Any) -> str:
    from cryptography.hazmat.primitives import serialization

    return str(certificate.public_bytes(serialization.Encoding.PEM).decode())


def context(credentials: Credentials, purpose: ssl.Purpose) -> ssl.SSLContext:
    """A TLS context that has credentials, asks for the other side's, and takes those of the same authority only."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if purpose is ssl.Purpose.CLIENT_AUTH else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = (
        False  # by address, which a certificate made beforehand cannot know; the authority is the run's
    )
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=credentials.authority)
    with _in_memory(credentials.certificate + credentials.key) as path:
        made.load_cert_chain(path)
    return made


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """A path to a text that is on no disk: OpenSSL reads keys from files only."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("graphray", os.MFD_CLOEXEC)
        try:
            os.write(fd, text.encode())
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)
        return
    # Not on Linux: a pipe, which holds as much without anybody reading it.
    with tempfile.TemporaryDirectory(prefix="graphray-") as folder:
        path = os.path.join(folder, "pipe")
        os.mkfifo(path, 0o600)
        fd = os.open(path, os.O_RDWR)
        try:
            os.write(fd, text.encode())
            yield path
        finally:
            os.close(fd)


class RunSecurity(Security):
    """What Dask is to use: encryption always, with these credentials, and no key in a temporary file."""

    __slots__ = ("credentials",)

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(require_encryption=True)  # type: ignore[no-untyped-call]
        self.credentials = credentials

    def _get_tls_context(self, tls: Any, purpose: ssl.Purpose) -> ssl.SSLContext:
        return context(self.credentials, purpose)

    def __reduce__(self) -> Any:
        raise TypeError("credentials are not pickled")
