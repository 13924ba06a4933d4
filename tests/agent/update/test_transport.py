"""TLS, proxies, and garbage: what lies below metadata and bundles."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import random
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgekit.agent.update.client import UpdateClient
from edgekit.agent.update.outcome import Outcome, UpdateError
from signed_updates import FakeClock, SignedRepository, make_client
from update_server import Request, UpdateServer, serving

Refused = Callable[..., Outcome]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of 127.0.0.1, signed by itself; the private key is in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.timezone.utc)
    place = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = (
        builder.not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(place, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(private + made.public_bytes(encoding))
    return path


@pytest.fixture
def tls_server(repository_files: SignedRepository, certificate: Path) -> Iterator[UpdateServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(repository_files.folder, tls=context) as server:
        yield server


@pytest.fixture
def tls_client(
    tls_server: UpdateServer, repository_files: SignedRepository, clock: FakeClock, tmp_path: Path
) -> UpdateClient:
    return make_client(tls_server.url, tmp_path / "tls", clock, repository_files.pinned)


def refresh_fails(client: UpdateClient) -> UpdateError:
    with pytest.raises(UpdateError) as caught:
        client.refresh()
    return caught.value


def test_bundle_comes_over_tls(
    tls_client: UpdateClient,
    repository_files: SignedRepository,
    certificate: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    ekb = repository_files.release(1)

    offer = tls_client.refresh()

    assert offer is not None
    assert tls_client.fetch(offer, tmp_path / "down").read_bytes() == ekb.read_bytes()


def test_certificate_of_nobody_is_named_with_the_clock(tls_client: UpdateClient) -> None:
    error = refresh_fails(tls_client)

    assert error.outcome.name == "certificate"
    assert "clock" in (error.hint or "")


def test_redirect_from_https_to_http_is_refused(
    tls_client: UpdateClient, tls_server: UpdateServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    def fault(request: Request) -> bool:
        request.answer(302, b"", {"Location": f"http://127.0.0.1:1{request.path}"})
        return True

    tls_server.fault = fault

    assert refresh_fails(tls_client).outcome.name == "redirect_refused"


def test_tls_to_a_server_without_it_is_offline(
    server: UpdateServer, repository_files: SignedRepository, clock: FakeClock, tmp_path: Path
) -> None:
    url = server.url.replace("http:", "https:")

    assert refresh_fails(make_client(url, tmp_path / "x", clock, repository_files.pinned)).outcome.name == "offline"


def test_proxy_of_the_environment_is_asked(
    server: UpdateServer,
    repository_files: SignedRepository,
    clock: FakeClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    origin = "http://updates.invalid"

    def fault(request: Request) -> bool:
        request.path = request.path.removeprefix(origin)
        return False

    server.fault = fault
    repository_files.release(1)

    offer = make_client(origin, tmp_path / "x", clock, repository_files.pinned).refresh()

    assert offer is not None
    assert all(path.startswith(f"{origin}/metadata/") for path in server.paths())


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "root"])
def test_damaged_metadata_always_has_a_name(
    role: str, client: UpdateClient, repository_files: SignedRepository
) -> None:
    """Bytes changed, taken away and put in, two hundred times: refused by name or read as before, never a crash."""
    client.refresh()
    repository_files.publish_root()
    repository_files.publish()
    whole = repository_files.path(role).read_bytes()
    rng = random.Random(0)

    for _ in range(50):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(content))
            content[place : place + rng.choice((0, 1, 1, 40))] = rng.randbytes(rng.choice((0, 1, 1, 3)))
        repository_files.path(role).write_bytes(bytes(content))
        with contextlib.suppress(UpdateError):
            client.refresh()
        assert client.status.outcome is None or client.status.outcome.is_attack
    repository_files.path(role).write_bytes(whole)
    client.refresh()
