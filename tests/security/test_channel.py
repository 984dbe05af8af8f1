"""TLS between two buffers, and files that change."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from raftalloc.errors import ConfigError
from raftalloc.security.channel import ChannelError, TlsChannel
from raftalloc.security.contexts import Reloading, TlsContexts
from raftalloc.security.files import TlsFiles
from raftalloc.security.names import Identity, identity_of
from tests.certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path


def carry(sender: TlsChannel, receiver: TlsChannel, data: bytes = b"") -> bytes:
    return b"".join(receiver.receive(memoryview(data or sender.take())))


def shaken(client: TlsChannel, server: TlsChannel) -> None:
    carry(client, server, client.begin())
    for _ in range(3):
        if client.is_open and server.is_open:
            return
        carry(server, client)
        carry(client, server)


def test_both_sides_know_each_other_by_name_and_speak_tls_1_3(tmp_path: Path):
    authority = Authority(tmp_path, "g")
    server = TlsContexts(authority.replica("n1")).channel(server=True)
    client = TlsContexts(authority.client("alice")).channel(server=False)
    shaken(client, server)
    assert client.identity == Identity("g", "replica", "n1")
    assert server.identity == Identity("g", "client", "alice")
    assert client._tls.version() == "TLSv1.3"


@pytest.mark.parametrize("size", [1, 100, 16_384, 16_385, 1 << 20])
def test_bytes_come_out_as_they_went_in_whatever_the_pieces(tmp_path: Path, size: int):
    authority = Authority(tmp_path, "g")
    contexts = TlsContexts(authority.replica("n1"))
    server, client = contexts.channel(server=True), contexts.channel(server=False)
    shaken(client, server)
    sealed = client.seal(b"x" * size)
    half = len(sealed) // 2 + 1
    heard = carry(client, server, sealed[:half]) if sealed[:half] else b""
    heard += carry(client, server, sealed[half:]) if sealed[half:] else b""
    assert heard == b"x" * size


def test_a_byte_that_was_changed_under_way_ends_the_channel(tmp_path: Path):
    contexts = TlsContexts(Authority(tmp_path, "g").replica("n1"))
    server, client = contexts.channel(server=True), contexts.channel(server=False)
    shaken(client, server)
    sealed = bytearray(client.seal(b"transfer 1"))
    sealed[-1] ^= 1
    with pytest.raises(ChannelError) as caught:
        carry(client, server, bytes(sealed))
    assert caught.value.reason == "tls"


def test_a_server_that_has_a_clients_certificate_is_not_believed(tmp_path: Path):
    authority = Authority(tmp_path, "g")
    server = TlsContexts(authority.client("n1")).channel(server=True)
    client = TlsContexts(authority.replica("n2")).channel(server=False)
    carry(client, server, client.begin())
    with pytest.raises(ChannelError) as caught:
        carry(server, client)
    assert caught.value.reason == "bad_certificate"


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["https://raftalloc/g/replica/n1"],
        ["spiffe://raftalloc/g/admin/n1"],
        ["spiffe://raftalloc/g/replica/"],
        ["spiffe://raftalloc/g/replica/n1/x"],
        ["spiffe://raftalloc/g/replica/n1\n"],
        ["spiffe://raftalloc/../replica/n1"],
        ["spiffe://raftalloc/g/replica/n1", "spiffe://raftalloc/g/replica/n2"],
    ],
)
def test_what_is_not_exactly_one_name_is_none(uris: list[str]):
    assert identity_of(uris) is None


def test_files_that_went_bad_are_complained_of_once_and_taken_up_when_they_are_good(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    authority = Authority(tmp_path, "g")
    files = authority.replica("n1")
    reloading, contexts = Reloading(files), TlsContexts(files)
    before, key = reloading.pem, tmp_path / "n1-key.pem"
    whole = key.read_bytes()
    with caplog.at_level(logging.WARNING):
        for content in (None, b"-----BEGIN nothing", Authority(tmp_path / "x", "g").ca.key):
            caplog.clear()
            key.unlink(missing_ok=True)
            if content is not None:
                key.write_bytes(content)
            for _ in range(5):
                assert not reloading.changed()
                contexts.channel(server=True)
            assert len(caplog.records) == 2, "one for each of the two that watch"
    assert reloading.pem == before
    key.write_bytes(whole)
    assert not reloading.changed(), "the same again"
    authority.reissue("n1")
    assert reloading.changed()
    assert reloading.pem != before
    assert not reloading.changed()


@pytest.mark.parametrize("missing", ["ca.pem", "n1.pem", "n1-key.pem"])
def test_a_missing_file_is_named_with_the_remedy(tmp_path: Path, missing: str):
    files = Authority(tmp_path, "g").replica("n1")
    (tmp_path / missing).unlink()
    with pytest.raises(ConfigError, match=rf"{missing}: there is no such file; make certificates"):
        TlsContexts(files)


def test_a_file_that_is_no_pem_is_named(tmp_path: Path):
    files = Authority(tmp_path, "g").replica("n1")
    (tmp_path / "ca.pem").write_bytes(b"hello")
    with pytest.raises(ConfigError, match=r"ca.pem: is no PEM file"):
        Reloading(TlsFiles(files.ca, files.certificate, files.key))
