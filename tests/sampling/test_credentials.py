"""Content Credentials: signed, read back and verified; a changed byte shows; no unsigned file stands under the name."""

import json
import shlex
from pathlib import Path

import av
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from PIL import Image

from mmjax import credentials, inspect, media, sample
from mmjax.credentials import Signer, open_signer, read_credentials
from mmjax.errors import ConfigError, OutputError
from tests.helpers import certificates
from tests.helpers.fake_sampler import CLIP, PROMPT, SAFE, command, ends, fails, there

FRAMES = np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), dtype=np.uint8)
MIMES = {"clip.mp4": "video/mp4", "clip.png": "image/png"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The files of a certificate and its key."""
    return certificates.write_chain(tmp_path_factory.mktemp("signer"))


@pytest.fixture
def signing(pair):
    """The flags that sign."""
    return ("--c2pa-cert", pair[0], "--c2pa-key", pair[1])


def write(folder, name, **given):
    if name.endswith("png"):
        return media.write_png(folder / name, FRAMES[0], **given)
    return media.write_video(folder / name, FRAMES, 8, **given)


def pixels(path):
    if path.suffix == ".png":
        return np.asarray(Image.open(path))
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


KEYS = {
    "es256": certificates.new_key,
    "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "es512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ps256": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("algorithm", KEYS)
def test_signed_files_are_read_back_and_verified(tmp_path, algorithm):
    signer = open_signer(*certificates.write_chain(tmp_path, KEYS[algorithm]()))
    assert signer.algorithm == algorithm
    for name, mime in MIMES.items():
        bare = write(tmp_path / "bare", name)
        signed = write(tmp_path / "signed", name, sign=signer.sign)
        found = read_credentials(signed, mime)
        assert found["verdict"].startswith("valid: the file is as it was signed; nobody vouches")
        assert found["algorithm"].lower() == algorithm and found["signed by"] == "mmjax test signer, mmjax tests"
        assert found["made with"].startswith("mmjax ") and found["digital source type"] == media.DIGITAL_SOURCE_TYPE
        assert "problems" not in found
        np.testing.assert_array_equal(pixels(signed), pixels(bare))
        assert inspect.inspect(signed).notice == media.AI_NOTICE and not list(signed.parent.glob("*partial*"))
        assert signed.stat().st_size - bare.stat().st_size < credentials.SIZE
        assert read_credentials(bare, mime) is None and not credentials.is_signed(bare)


@pytest.mark.parametrize("name", MIMES)
def test_a_changed_byte_shows_wherever_it_stands(tmp_path, pair, name):
    """In pixels, in the notice and in the manifest; what is left out of a hash by C2PA itself is no content."""
    whole = write(tmp_path, name, sign=open_signer(*pair).sign).read_bytes()
    notice = whole.index(b"by a diffusion model")
    for place in (len(whole) - 200, len(whole) // 2, notice, whole.index(b"trainedAlgorithmicMedia")):
        changed = bytearray(whole)
        changed[place] ^= 1
        (tmp_path / "changed").write_bytes(changed)
        found = read_credentials(tmp_path / "changed", MIMES[name])
        assert found["verdict"].startswith(("INVALID", "unreadable")), place
        assert found["verdict"].startswith("unreadable") or found["problems"]


def test_a_manifest_that_is_not_the_active_one(tmp_path, pair, monkeypatch):
    """A flipped bit in its name once left the library with a store that lacks it."""
    import c2pa

    path = write(tmp_path, "clip.png", sign=open_signer(*pair).sign)
    monkeypatch.setattr(c2pa.Reader, "json", lambda self: '{"active_manifest": "a", "manifests": {}}')
    assert read_credentials(path, "image/png")["verdict"].startswith("unreadable")


def test_a_certificate_that_ran_out_since_is_told_apart(tmp_path, pair):
    """Of a file that is as it was signed; c2pa-python said so of one whose certificate ran out six seconds later."""
    import c2pa

    with c2pa.Reader(write(tmp_path, "clip.png", sign=open_signer(*pair).sign)) as reader:
        store = json.loads(reader.json())
    assert credentials._told(store)["verdict"].startswith("valid")
    store["validation_state"] = "Invalid"
    store["validation_results"]["activeManifest"]["failure"] = [{"code": "signingCredential.expired"}]
    assert "the certificate has run out" in credentials._told(store)["verdict"]
    store["validation_results"]["activeManifest"]["failure"] += [{"code": "assertion.dataHash.mismatch"}]
    assert "the file was changed" in credentials._told(store)["verdict"]


def test_the_command_signs_video_and_sheet(sampler, signing, capsys):
    sample.main(command(*PROMPT, *signing))
    assert there() == CLIP
    capsys.readouterr()
    inspect.main(["clip.mp4", "clip.png", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [each["c2pa"]["verdict"].partition(":")[0] for each in told] == ["valid"] * 2
    assert told[0]["settings"]["prompt"] == "a man"
    inspect.main(["clip.mp4"])
    said = capsys.readouterr().out
    assert "c2pa.verdict" in said and media.AI_NOTICE in said
    sample.main(command(*PROMPT, *signing, "--overwrite", "--seed", 1))  # what is signed is ours to replace


def test_nothing_personal_is_signed(sampler, pair):
    Path("Anna 1984.png").write_bytes(b"a photo")
    given = ("--reference", "Anna 1984.png", "--prompt", "A man img called Bob")
    sample.main(command(*given, "--c2pa-cert", pair[0], "--c2pa-key", pair[1]))
    import c2pa

    for name, mime in MIMES.items():
        with open(name, "rb") as opened, c2pa.Reader(mime, opened) as reader:
            manifest = reader.detailed_json()
        assert "trainedAlgorithmicMedia" in manifest
        assert not [word for word in ("Anna", "Bob", "clip", str(Path.cwd()), pair[0].parent.name) if word in manifest]


def test_without_a_certificate_nothing_changes(tmp_path, sampler):
    for name in MIMES:
        assert write(tmp_path / "a", name).read_bytes() == write(tmp_path / "b", name, sign=None).read_bytes()
    sample.main(command(*PROMPT))
    assert not [name for name in MIMES if credentials.is_signed(name)]
    assert inspect.inspect("clip.mp4").c2pa is None


@pytest.mark.parametrize("name", MIMES)
def test_no_unsigned_file_ever_stands_under_the_name(tmp_path, pair, name):
    """What stood there stays until the signed file replaces it."""

    def look(partial):
        assert path.read_bytes() == b"before" and partial != path
        raise OutputError("no")

    path = tmp_path / name
    path.write_bytes(b"before")
    with pytest.raises(OutputError):
        write(tmp_path, name, sign=look)
    assert path.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1


def test_what_fails_leaves_the_command_that_signs(sampler, signing, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Signer, "sign", lambda *_: (_ for _ in ()).throw(OutputError("cannot be signed")))
        said = ends(capsys, *PROMPT, *signing)
    assert "cannot be signed" in said and SAFE in said and there() == ["clip.latents.npy"]
    with monkeypatch.context() as patch:
        fails(patch, "sheet")
        said = ends(capsys, *PROMPT, *signing)
    sample.main(shlex.split(said.partition("mmjax.sample ")[2].removesuffix(" goes on from there")))
    assert all(map(credentials.is_signed, MIMES)) and "cert.pem" in said


def test_a_batch_leaves_no_video_unsigned(sampler, signing, capsys):
    sample.main(command(*PROMPT, "--videos", 2))
    sample.main(command(*PROMPT, "--videos", 2, *signing))
    assert len(sampler.made) == 4 and credentials.is_signed("clip-001.mp4") and credentials.is_signed("clip-001.png")
    sample.main(command(*PROMPT, "--videos", 2, *signing))
    assert len(sampler.made) == 4 and "2 of 2 videos are finished" in capsys.readouterr().out


def test_the_key_is_never_written_to(sampler, signing, capsys, tmp_path):
    cert, key = certificates.write_chain(tmp_path)
    before, _ = key.read_bytes(), key.rename("clip.json")
    assert "that is --c2pa-key clip.json" in ends(capsys, *PROMPT, "--c2pa-cert", cert, "--c2pa-key", "clip.json")
    assert Path("clip.json").read_bytes() == before and not sampler.made


def other_key(folder):
    certificates.write_chain(folder)
    certificates.write_key(folder / "key.pem", certificates.new_key())


def with_password(folder):
    key = certificates.new_key()
    certificates.write_chain(folder, key)
    certificates.write_key(folder / "key.pem", key, b"secret")


def swapped(folder):
    cert, key = certificates.write_chain(folder)
    content, _ = cert.read_bytes(), cert.write_bytes(key.read_bytes())
    key.write_bytes(content)


def root_first(folder):
    cert, _ = certificates.write_chain(folder)
    first, second = cert.read_bytes().split(b"-----BEGIN")[1:]
    cert.write_bytes(b"-----BEGIN" + second + b"-----BEGIN" + first)


REFUSED = {
    "no certificate": (lambda folder: (folder / "cert.pem").unlink(), "--c2pa-cert .*cert.pem: expected a PEM file"),
    "no key": (lambda folder: (folder / "key.pem").unlink(), "--c2pa-key .*key.pem: expected a PEM file, found: No "),
    "swapped": (swapped, "--c2pa-cert .*: expected certificates in PEM, found other bytes"),
    "damaged key": (lambda folder: (folder / "key.pem").write_bytes(b"x"), "--c2pa-key .*: expected a private key in"),
    "password": (with_password, "--c2pa-key .*: expected a key without a password"),
    "another's key": (other_key, "--c2pa-key .*: expected the key of the first certificate in .*, found another"),
    "root first": (root_first, "--c2pa-key .*: expected the key of the first certificate in .*, found another"),
    "run out": (lambda folder: certificates.write_chain(folder, days=(-9, -2)), "mmjax test signer,.* ran out on 20"),
    "later": (lambda folder: certificates.write_chain(folder, days=(2, 9)), "which begins on 20.*clock"),
    "curve": (lambda folder: certificates.write_chain(folder, ec.generate_private_key(ec.SECP256K1())), "P-256, P-384"),
    "small RSA": (
        lambda folder: certificates.write_chain(folder, rsa.generate_private_key(65537, 1024)),
        "RSA of 2048",
    ),
    "DSA": (lambda folder: certificates.write_chain(folder, dsa.generate_private_key(1024)), "expected an EC key"),
    "for servers": (
        lambda folder: certificates.write_chain(folder, purpose=ExtendedKeyUsageOID.SERVER_AUTH),
        "expected a certificate as C2PA asks for .* found: Signature: the certificate is invalid",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_sign_is_one_line_before_anything_slow(sampler, capsys, tmp_path, case, monkeypatch):
    spoil, words = REFUSED[case]
    pair = certificates.write_chain(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ConfigError, match=words):
        open_signer(*pair)
    monkeypatch.setattr(sample, "load_sampler", lambda *_, **__: pytest.fail("weights are read"))
    assert ends(capsys, *PROMPT, "--c2pa-cert", pair[0], "--c2pa-key", pair[1]).startswith("error: --c2pa-")


def test_a_certificate_takes_its_key_along(sampler, signing, capsys):
    assert ends(capsys, *PROMPT, *signing[:2]) == (
        "error: --c2pa-cert: expected --c2pa-key beside it, found none; a signature takes both"
    )
    assert "--c2pa-key: expected --c2pa-cert beside it" in ends(capsys, *PROMPT, *signing[2:])


def test_without_the_library(sampler, signing, capsys, monkeypatch):
    sample.main(command(*PROMPT, *signing))
    monkeypatch.setitem(__import__("sys").modules, "c2pa", None)
    assert 'pip install "mmjax[c2pa]"' in ends(capsys, *PROMPT, *signing, "--overwrite")
    assert inspect.inspect("clip.mp4").c2pa == {"verdict": f"unchecked: {credentials.INSTALL} brings what reads it"}


def test_a_manifest_elsewhere_is_not_fetched(tmp_path, pair, monkeypatch):
    """A foreign file must not have this machine call a server."""
    import c2pa

    signer, path = open_signer(*pair), write(tmp_path, "clip.png")
    info = c2pa.C2paSignerInfo(signer.algorithm, signer.chain, signer.secret, None)
    with c2pa.Signer.from_info(info) as by, c2pa.Builder(credentials._manifest()) as builder:
        builder.set_remote_url("http://127.0.0.1:9/manifest.c2pa")
        builder.set_no_embed()
        with open(path, "rb") as source, open(tmp_path / "far.png", "w+b") as target:
            builder.sign(by, "image/png", source, target)
    assert read_credentials(tmp_path / "far.png", "image/png")["verdict"].startswith("unreadable: Remote: must fetch")


def test_what_is_decoded_from_latents_is_signed_as_well(sampler, signing):
    sample.main(command(*PROMPT, "--save-latents", "kept.npy"))
    sample.main(command("--decode", "kept.npy", *signing, output="again.mp4"))
    assert credentials.is_signed("again.mp4") and not credentials.is_signed("clip.mp4")
    np.testing.assert_array_equal(pixels(Path("again.mp4")), pixels(Path("clip.mp4")))
