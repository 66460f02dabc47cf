"""Content Credentials (C2PA): a signed manifest in an mp4 or PNG that says that a model made it, and holds its bytes.

    signer = open_signer("cert.pem", "key.pem")
    media.write_video(path, frames, fps, sign=signer.sign)
    read_credentials(path, "video/mp4")  # {"verdict": "valid, ...", "signed by": ...}, None without a manifest

The manifest says: created by a trained model (IPTC's digital source type), with mmjax and its version. It has no
prompt, picture, file name or time; of a person it names nobody but whom the certificate names. Its hashes cover
pictures, tags and the settings in them (`mmjax.provenance`): of 18,000 bits flipped in a video and a picture, every one
outside of the manifest itself showed but those in an mp4's `ftyp` box, which C2PA leaves out. Nothing is asked of the
network: no time stamp, no certificate status, no manifest that lies elsewhere. Without a time stamp a file verifies as
long as its certificate runs. Written after C2PA 2.4 by c2pa-python, an extra.
"""

import dataclasses
import datetime
import io
import json
import os
from pathlib import Path
from typing import Any

from mmjax import media
from mmjax.errors import ConfigError, OutputError, error_text
from mmjax.versions import versions

SIZE = 2**14  # bytes that a manifest may take: 3 KiB and twice the certificates, each under 2 KiB
INSTALL = 'pip install "mmjax[c2pa]"'
_OFFLINE = {"remote_manifest_fetch": False, "ocsp_fetch": False}
_SETTINGS = {"verify": _OFFLINE, "builder": {"thumbnail": {"enabled": False}}}
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_KEYS = "an EC key (P-256, P-384, P-521), Ed25519, or RSA of 2048 bits or more"
_PNG, _MP4 = b"\x89PNG\r\n\x1a\n", b"ftyp"
_MARKS = (b"caBX", bytes.fromhex("d8fec3d61b0e483c92975828877ec481"))  # PNG's chunk and mp4's box of a manifest
_HEAD = 2**16  # bytes in which one of them begins
_VERDICTS = {
    "Trusted": "valid: the file is as it was signed, by a certificate on the list of those to trust",
    "Valid": "valid: the file is as it was signed; nobody vouches here for whom the certificate names",
    "Invalid": "INVALID: the file was changed since it was signed, or not signed rightly",
}
_UNTRUSTED, _EXPIRED = "signingCredential.untrusted", "signingCredential.expired"  # the first, "Valid" says already
_RAN_OUT = "INVALID: the certificate has run out; without a time stamp none can tell that it signed before"


@dataclasses.dataclass(frozen=True)
class Signer:
    """A certificate with its key, found to sign what others can verify; see `open_signer`.

    chain, secret: PEM. algorithm: as C2PA calls it.
    """

    certificate: Path
    key: Path
    algorithm: str
    chain: bytes = dataclasses.field(repr=False)
    secret: bytes = dataclasses.field(repr=False)

    def sign(self, path: str | os.PathLike) -> None:
        """Puts a signed manifest into an mp4 or PNG. Raises `OutputError` where that fails; the file is then unsigned.

        For files that have not their name yet (`media.write_video`).
        """
        content = Path(path).read_bytes()
        try:
            signed = self._signed(content)
        except _errors() as error:
            raise OutputError(
                f"--c2pa-cert {self.certificate}: expected to sign with it, found: {error_text(error)}"
            ) from error
        Path(path).write_bytes(signed)

    def _signed(self, content: bytes) -> bytes:
        import c2pa

        mime, signed = "image/png" if content.startswith(_PNG) else "video/mp4", io.BytesIO()
        info = c2pa.C2paSignerInfo(self.algorithm, self.chain, self.secret, None)  # None: no time stamp
        with (
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(_manifest(), context=c2pa.Context.from_dict(_SETTINGS)) as builder,
        ):
            builder.sign(signer, mime, io.BytesIO(content), signed)
        return signed.getvalue()


def open_signer(certificate: str | os.PathLike, key: str | os.PathLike) -> Signer:
    """A signer of files, tried on a picture of one pixel.

    Args:
      certificate: PEM, the signer's certificate first, those above it behind it.
      key: PEM without a password; the algorithm is the key's.

    Raises:
      ConfigError: files that are not there or no such things; a key that is not the certificate's; a certificate that
        has run out or begins later, or that C2PA does not take; the library is not installed.
    """
    chain, secret = _read(certificate, "--c2pa-cert"), _read(key, "--c2pa-key")
    try:
        import c2pa  # noqa: F401
        from cryptography.hazmat.primitives import serialization as pem
    except ImportError as error:
        raise ConfigError(f"--c2pa-cert: expected the package c2pa-python, found none: {INSTALL}") from error
    certificates, private = _certificates(chain, certificate), _private(secret, key)
    same = (pem.Encoding.DER, pem.PublicFormat.SubjectPublicKeyInfo)
    if certificates[0].public_key().public_bytes(*same) != private.public_key().public_bytes(*same):
        raise ConfigError(
            f"--c2pa-key {key}: expected the key of the first certificate in {certificate}, found another one's; give "
            "the pair that was made together, the signer's own certificate first in its file"
        )
    for each in certificates:
        _check_time(each, certificate)
    secret = private.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())
    signer = Signer(Path(certificate), Path(key), _algorithm(private, key), chain, secret)
    try:
        signed = signer._signed(_one_pixel())
        refused = "" if _is_valid(signed) else "its signature does not verify"
    except _errors() as error:
        refused = error_text(error)
    if refused:
        raise ConfigError(
            f"--c2pa-cert {certificate}: expected a certificate as C2PA asks for (issued by another one, for digital "
            f"signatures, with the extended usage emailProtection or documentSigning), found: {refused}"
        )
    return signer


def signer_of_flags(certificate: str | None, key: str | None) -> Signer | None:
    """The signer of `--c2pa-cert` and `--c2pa-key`; None without both. Raises `ConfigError` for one of them alone."""
    if not certificate and not key:
        return None
    if not (certificate and key):
        given, missing = ("--c2pa-cert", "--c2pa-key") if certificate else ("--c2pa-key", "--c2pa-cert")
        raise ConfigError(f"{given}: expected {missing} beside it, found none; a signature takes both")
    return open_signer(certificate, key)


def is_signed(path: str | os.PathLike) -> bool:
    """Whether an mp4 or PNG holds a manifest, be it valid or not; False where it cannot be read."""
    try:
        with open(path, "rb") as opened:
            head = opened.read(_HEAD)
    except OSError:
        return False
    return (head.startswith(_PNG) or head[4:8] == _MP4) and any(mark in head for mark in _MARKS)


def read_credentials(path: str | os.PathLike, mime: str) -> dict[str, Any] | None:
    """What the manifest in a file says and whether it holds; None where there is none.

    Returns:
      "verdict": begins with valid, INVALID, unreadable or unchecked (the library is not installed). Where it could be
      read also "problems" (C2PA's codes), "signed by", "algorithm", "made with" and "digital source type".
    """
    try:
        import c2pa
    except ImportError:
        return {"verdict": f"unchecked: {INSTALL} brings what reads it"} if is_signed(path) else None
    try:
        with open(path, "rb") as opened:
            reader = c2pa.Reader.try_create(mime, opened, context=c2pa.Context.from_dict(_SETTINGS))
            if reader is None:
                return None
            with reader:
                return _told(json.loads(reader.json()))
    except (
        c2pa.C2paError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:  # of a store that lacks its parts
        return {"verdict": f"unreadable: {error_text(error)}"}


def _told(store: dict[str, Any]) -> dict[str, Any]:
    manifest = store["manifests"][store["active_manifest"]]
    state, signature = store["validation_state"], manifest.get("signature_info", {})
    generators = [f"{each.get('name', '')} {each.get('version', '')}" for each in manifest["claim_generator_info"]]
    actions = [
        action
        for assertion in manifest["assertions"]
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"]["actions"]
    ]
    failures = store.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
    problems = sorted({each["code"] for each in failures} - {_UNTRUSTED})
    told = {
        "verdict": _RAN_OUT if problems == [_EXPIRED] else _VERDICTS[state],
        "problems": problems,
        "signed by": ", ".join(signature[name] for name in ("common_name", "issuer") if signature.get(name)),
        "algorithm": signature.get("alg"),
        "made with": ", ".join(generators),
        "digital source type": next((a["digitalSourceType"] for a in actions if "digitalSourceType" in a), None),
    }
    return {name: value for name, value in told.items() if value}


def _manifest() -> dict[str, Any]:
    made_with = {"name": "mmjax", "version": versions()["mmjax"]}
    created = {"action": "c2pa.created", "digitalSourceType": media.DIGITAL_SOURCE_TYPE, "softwareAgent": made_with}
    actions = {"label": "c2pa.actions.v2", "data": {"actions": [created]}}
    return {"claim_generator_info": [made_with], "assertions": [actions]}


def _read(path: str | os.PathLike, flag: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{flag} {path}: expected a PEM file, found: {error_text(error)}") from error


def _certificates(chain: bytes, path: str | os.PathLike) -> list:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(chain)
    except ValueError as error:
        raise ConfigError(
            f"--c2pa-cert {path}: expected certificates in PEM, found other bytes ({error_text(error)})"
        ) from error


def _private(secret: bytes, path: str | os.PathLike):
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(secret, password=None)
    except TypeError as error:
        raise ConfigError(f"--c2pa-key {path}: expected a key without a password, found one that has it") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"--c2pa-key {path}: expected a private key in PEM, found other bytes") from error


def _check_time(certificate, path: str | os.PathLike) -> None:
    now, name = datetime.datetime.now(datetime.UTC), certificate.subject.rfc4514_string()
    if now > certificate.not_valid_after_utc:
        raise ConfigError(
            f"--c2pa-cert {path}: expected certificates that are in use, found {name}, which ran out on "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}; renew it"
        )
    if now < certificate.not_valid_before_utc:
        raise ConfigError(
            f"--c2pa-cert {path}: expected certificates that are in use, found {name}, which begins on "
            f"{certificate.not_valid_before_utc:%Y-%m-%d}; is this machine's clock right?"
        )


def _algorithm(private, path: str | os.PathLike) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    found = None
    if isinstance(private, ec.EllipticCurvePrivateKey):
        found = _CURVES.get(private.curve.name)
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        found = "ed25519"
    elif isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
        found = "ps256"
    if found is None:
        raise ConfigError(f"--c2pa-key {path}: expected {_KEYS}, which C2PA signs with; found another kind")
    return found


def _one_pixel() -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.new("RGB", (1, 1)).save(content, "png")
    return content.getvalue()


def _is_valid(signed: bytes) -> bool:
    import c2pa

    settings = c2pa.Context.from_dict(_SETTINGS)
    with c2pa.Reader("image/png", io.BytesIO(signed), context=settings) as reader:
        return reader.get_validation_state() != "Invalid"


def _errors() -> type[Exception]:
    import c2pa

    return c2pa.C2paError
