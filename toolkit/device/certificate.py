"""A certificate for one address, made on the spot, for pages that need https."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from toolkit.files import temporary_folder
from toolkit.runtime import require

DAYS = 7


def server_context(host: str) -> ssl.SSLContext:
    """A server's TLS with a new key and a certificate for an IP address, signed by itself, for a week.
    Neither stays on the disk. Raises InputError where the package cryptography is missing."""
    x509 = require("cryptography.x509", "device")
    hashes = require("cryptography.hazmat.primitives.hashes", "device")
    forms = require("cryptography.hazmat.primitives.serialization", "device")
    curves = require("cryptography.hazmat.primitives.asymmetric.ec", "device")
    key = curves.generate_private_key(curves.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks of phones differ
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with temporary_folder() as folder:
        file = folder / "server.pem"
        file.touch(0o600)
        encoding = forms.Encoding.PEM
        secret = key.private_bytes(encoding, forms.PrivateFormat.PKCS8, forms.NoEncryption())
        file.write_bytes(secret + certificate.public_bytes(encoding))
        context.load_cert_chain(file)
    return context
