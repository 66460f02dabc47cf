"""Certificates that C2PA takes, made on the spot: one of a signer, issued by a root of its own."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(1)
USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def write_chain(folder: Path, key=None, days: tuple[float, float] = (-1, 30), purpose=None):
    """Writes cert.pem, the signer's certificate before its root's, and key.pem into a folder; gives both paths.

    days: from now, of the signer's first and last. purpose: extended usage, by default emailProtection.
    """
    key, root_key = key or new_key(), new_key()
    root = _builder("mmjax test root", "mmjax test root", root_key, (-2, 60))
    root = root.add_extension(x509.BasicConstraints(True, None), True).add_extension(_usage("key_cert_sign"), True)
    issued = _builder("mmjax test signer", "mmjax test root", key, days)
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    usage = x509.ExtendedKeyUsage([purpose or ExtendedKeyUsageOID.EMAIL_PROTECTION])
    for extension, critical in (
        (x509.BasicConstraints(False, None), True),
        (_usage("digital_signature"), True),
        (usage, False),
        (above, False),
    ):
        issued = issued.add_extension(extension, critical)
    chain = [each.sign(root_key, hashes.SHA256()) for each in (issued, root)]
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(b"".join(each.public_bytes(pem) for each in chain))
    return folder / "cert.pem", write_key(folder / "key.pem", key)


def write_key(path: Path, key, password: bytes = b"") -> Path:
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, hidden)
        if isinstance(key, ec.EllipticCurvePrivateKey)  # as openssl's ecparam writes one
        else key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
    )
    return path


def _builder(name: str, issuer: str, key, days) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    named = lambda text: x509.Name(  # noqa: E731
        [x509.NameAttribute(NameOID.COMMON_NAME, text), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "mmjax tests")]
    )
    builder = x509.CertificateBuilder().subject_name(named(name)).issuer_name(named(issuer))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now + days[0] * DAY).not_valid_after(now + days[1] * DAY)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)


def _usage(purpose: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name == purpose for name in USAGES})
