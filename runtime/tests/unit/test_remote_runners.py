"""What lets a runner of another machine in: its token, its signature, its credential, and the authority it trusts."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dreamforge.contracts.errors import ArtifactNotFound, DependencyAway
from dreamforge.runtime.log.seeds import new_seed, public_key_of
from dreamforge.runtime.remote.credentials import RunnerCredentials
from dreamforge.runtime.remote.objects import RemoteObjects
from dreamforge.runtime.remote.signatures import authorization, is_signed_by, parse_authorization
from dreamforge.runtime.remote.token import PREFIX, JoinToken, JoinTokenInvalid, parse_join_token
from dreamforge.runtime.tls.certificate_folder import CertificateFolder
from dreamforge.runtime.tls.certificates import SERVER_DAYS, fingerprint_of, names_in

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SEED, OTHER_SEED = new_seed(), new_seed()


def token() -> JoinToken:
    return JoinToken(
        runner_id="gpu-2",
        addresses=("10.0.0.1:8443", "[fd00::1]:8443"),
        fingerprint="ab" * 32,
        seed=SEED,
        expires_at=NOW + timedelta(hours=24),
    )


def test_a_token_survives_a_terminal() -> None:
    assert parse_join_token(f"  {token().encoded()}\n") == token()


@pytest.mark.parametrize(
    "text",
    ["", "gpu-2", SEED, PREFIX, token().encoded()[:-8], token().encoded() + "=x"],
    ids=["nothing", "a name", "a seed", "a prefix", "cut off", "more"],
)
def test_what_is_no_whole_token_is_refused(text: str) -> None:
    with pytest.raises(JoinTokenInvalid, match="runner add"):
        parse_join_token(text)


def test_a_signature_is_of_one_runner_one_request_and_one_time() -> None:
    value = authorization(SEED, "gpu-2", "PUT", "/v1/objects/images/a", 1_000)
    sent = parse_authorization(value)
    assert sent is not None
    assert (sent.runner_id, sent.seconds) == ("gpu-2", 1_000)
    key = public_key_of(SEED)
    assert is_signed_by(sent, key, "PUT", "/v1/objects/images/a")
    assert not is_signed_by(sent, key, "GET", "/v1/objects/images/a")
    assert not is_signed_by(sent, key, "PUT", "/v1/objects/images/b")
    assert not is_signed_by(sent, public_key_of(OTHER_SEED), "PUT", "/v1/objects/images/a")
    for changed in (value.replace("1000", "1001"), value.replace("gpu-2", "gpu-3")):
        forged = parse_authorization(changed)
        assert forged is not None
        assert not is_signed_by(forged, key, "PUT", "/v1/objects/images/a")


@pytest.mark.parametrize(
    "value", ["", "Bearer forge_x", "Nkey gpu-2 1000", "Nkey gpu-2 1000 short", "Nkey a/b 1 " + "A" * 86]
)
def test_other_credentials_are_no_signature(value: str) -> None:
    assert parse_authorization(value) is None


def test_a_credential_that_is_not_used_in_time_ends_and_one_that_was_stays(tmp_path: Path) -> None:
    credentials, late = RunnerCredentials(tmp_path / "users"), NOW + timedelta(hours=2)
    for runner_id in ("used", "unused"):
        credentials.add(runner_id, public_key_of(SEED), NOW + timedelta(hours=1))
    credentials.add("by-hand", public_key_of(OTHER_SEED))
    credentials.used("used")
    assert {runner_id: credentials.key_of(runner_id, late) is not None for runner_id in credentials.all()} == {
        "used": True,
        "unused": False,
        "by-hand": True,
    }
    assert credentials.key_of("unused", NOW) == public_key_of(SEED)
    assert credentials.expired(late) == ("unused",)
    assert credentials.remove("used")
    assert not credentials.remove("used")
    assert credentials.key_of("used", NOW) is None


def test_a_runner_that_is_added_again_has_the_new_key_only(tmp_path: Path) -> None:
    credentials = RunnerCredentials(tmp_path)
    credentials.add("gpu-2", public_key_of(SEED), NOW)
    credentials.add("gpu-2", public_key_of(OTHER_SEED))
    assert credentials.key_of("gpu-2", NOW) == public_key_of(OTHER_SEED)


def test_the_authority_stays_and_the_certificate_follows_names_and_time(tmp_path: Path) -> None:
    kept = CertificateFolder(tmp_path / "tls")
    assert kept.ensure(("10.0.0.1", "host.example"), NOW)
    fingerprint, first = kept.fingerprint(), kept.server.read_text()
    assert names_in(first) == {"10.0.0.1", "host.example"}
    assert not kept.ensure(("10.0.0.1",), NOW + timedelta(days=SERVER_DAYS / 2)), "it holds, for more names than asked"
    assert kept.ensure(("10.0.0.2",), NOW)
    assert names_in(kept.server.read_text()) == {"10.0.0.2"}
    assert kept.ensure(("10.0.0.2",), NOW + timedelta(days=SERVER_DAYS - 1)), "it is renewed before it ends"
    assert kept.fingerprint() == fingerprint == fingerprint_of(kept.authority.read_text())
    assert {path.stat().st_mode & 0o777 for path in kept.folder.iterdir()} == {0o600}
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(kept.server, kept.server_key)


async def test_objects_of_another_machine_are_asked_for_with_a_signature_and_errors_are_those_of_a_store(
    tmp_path: Path,
) -> None:
    """What a gateway says by HTTP is what the runner knows of an object store."""
    asked: list[bytes] = []
    answers = {b"GET /v1/objects/a": b"200 OK", b"GET /v1/objects/b": b"404 Not Found"}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head)
        status = answers.get(head.partition(b" HTTP")[0], b"503 Away")
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    (seed_file := tmp_path / "seed").write_text(SEED)
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        objects = RemoteObjects(url, "gpu-2", seed_file, None)
        assert await objects.get("a") == b"{}"
        with pytest.raises(ArtifactNotFound) as missing:
            await objects.get("b")
        assert missing.value.artifact_id == "b"
        with pytest.raises(DependencyAway, match="says 503 Away"):
            await objects.check()
    with pytest.raises(DependencyAway, match="s3"):
        await objects.check()
    await objects.close()
    assert all(b"Authorization: Nkey gpu-2 " in head for head in asked)
