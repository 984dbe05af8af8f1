"""`raftalloc certs`, and the certificates it makes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from raftalloc.cli.main import app
from raftalloc.errors import ConfigError
from raftalloc.security.authority import DAY_SECONDS, Authority
from raftalloc.security.files import TlsFiles
from raftalloc.security.inspection import check_own_files
from tests.certificates import now_s

if TYPE_CHECKING:
    from pathlib import Path

TOML = """\
[cluster]
id = "agents"
[replicas.n1]
grpc = "10.0.0.1:7001"
raft = "10.0.1.1:7101"
http = "127.0.0.1:7201"
"""
REPLICAS = {"n1": ("10.0.0.1", "10.0.1.1")}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluster.toml").write_text(TOML)
    return tmp_path


def certs(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["certs", *arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.output)


def whats(answer: Any) -> list[str]:
    return [each["what"] for each in answer["certificates"]]


def test_a_ca_and_certificates_are_made_once_and_kept(here: Path):
    assert whats(certs("init")) == ["made"]
    assert whats(certs("issue")) == ["made", "made"]
    before = {path.name: path.read_bytes() for path in (here / "certs").iterdir()}
    assert whats(certs("init")) == ["kept"]
    assert whats(certs("issue")) == ["kept", "kept"]
    assert {path.name: path.read_bytes() for path in (here / "certs").iterdir()} == before
    assert sorted(before) == [
        "ca-key.pem", "ca.pem", "client-key.pem", "client.pem", "n1-key.pem", "n1.pem",
    ]  # fmt: skip


def test_keys_are_for_their_owner_only(here: Path):
    certs("init")
    certs("issue", "--client", "alice")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (here / "certs").iterdir()}
    assert modes == {
        "ca.pem": 0o644, "ca-key.pem": 0o600, "client-alice.pem": 0o644, "client-alice-key.pem": 0o600,
    }  # fmt: skip


def test_what_there_is_is_shown_with_its_end(here: Path):
    certs("init", "--days", "100")
    certs("issue", "--days", "10")
    shown = {each["path"].rsplit("/", 1)[1]: each for each in certs("show")["certificates"]}
    assert shown["ca.pem"]["is_ca"]
    assert (shown["n1.pem"]["role"], shown["n1.pem"]["name"]) == ("replica", "n1")
    assert shown["n1.pem"]["addresses"] == ["10.0.0.1", "10.0.1.1"]
    assert (shown["client.pem"]["role"], shown["client.pem"]["name"]) == ("client", "local")
    assert shown["n1.pem"]["until"] < shown["ca.pem"]["until"]
    table = CliRunner().invoke(app, ["certs", "show"])
    assert "replica n1" in table.output
    assert " days" in table.output


def test_what_will_not_do_is_pointed_out_and_replaced_by_force_only(here: Path):
    certs("init")
    certs("issue")
    (here / "cluster.toml").write_text(TOML.replace("10.0.0.1", "10.0.0.9"))
    answer = certs("issue", code=1)
    assert whats(answer) == ["stale", "kept"]
    assert answer["certificates"][0]["why"] == "it is not for 10.0.0.9"
    assert whats(certs("issue", "--replica", "n1", "--force")) == ["made"]
    certs("init", "--force")
    assert whats(certs("issue")) == ["kept", "kept"]
    assert certs("init", "--forget-old")["forgotten"] == 1
    assert certs("issue", code=1)["certificates"][0]["why"] == "it is of another CA"


def test_without_a_ca_or_its_key_the_remedy_is_named(here: Path):
    said = certs("issue", code=2)["error"]["message"]
    assert "raftalloc certs init" in said
    certs("init")
    (here / "certs" / "ca-key.pem").unlink()
    assert "bring the CA's key back" in certs("issue", code=2)["error"]["message"]


@pytest.mark.parametrize("name", ["", "a/b", "../x", "ä", "x" * 65])
def test_a_client_is_named_plainly(here: Path, name: str):
    certs("init")
    assert "is no name" in certs("issue", "--client", name, code=2)["error"]["message"]


def test_an_unknown_replica_is_refused(here: Path):
    certs("init")
    assert (
        "there is no replica 'n9'" in certs("issue", "--replica", "n9", code=2)["error"]["message"]
    )


def test_a_local_group_renews_by_itself_what_ends_soon(tmp_path: Path):
    now = now_s()
    Authority(tmp_path, "g", now).ensure(REPLICAS)
    later = Authority(tmp_path, "g", now + 340 * DAY_SECONDS)
    assert [each.what for each in later.ensure(REPLICAS)] == ["made", "made"]
    assert [each.what for each in later.ensure(REPLICAS)] == ["kept", "kept"]
    much_later = Authority(tmp_path, "g", now + 3_640 * DAY_SECONDS)
    assert [each.what for each in much_later.ensure(REPLICAS)] == ["made", "made"]
    assert sum(each.is_ca for _, each in much_later.show()) == 2


def test_without_the_cas_key_a_local_group_leaves_everything_as_it_is(tmp_path: Path):
    authority = Authority(tmp_path, "g", now_s())
    authority.ensure(REPLICAS)
    (tmp_path / "ca-key.pem").unlink()
    assert Authority(tmp_path, "g", now_s() + 360 * DAY_SECONDS).ensure(REPLICAS) == []


def test_a_replica_refuses_files_that_no_other_would_take(tmp_path: Path):
    now = now_s()
    authority = Authority(tmp_path, "g", now)
    authority.ensure(REPLICAS)
    own = TlsFiles.of_client(tmp_path, "n1")
    assert check_own_files(own, "g", "n1", REPLICAS["n1"], now) == ""
    assert "ends in 5 days" in check_own_files(
        own, "g", "n1", REPLICAS["n1"], now + 360 * DAY_SECONDS
    )
    with pytest.raises(ConfigError, match="has expired"):
        check_own_files(own, "g", "n1", REPLICAS["n1"], now + 366 * DAY_SECONDS)
    with pytest.raises(ConfigError, match="is for spiffe://raftalloc/g/replica/n1, not for"):
        check_own_files(own, "g", "n2", (), now)
    with pytest.raises(ConfigError, match="is for spiffe://raftalloc/g/client/local, not for"):
        check_own_files(TlsFiles.of_client(tmp_path), "g", "client", (), now)
    with pytest.raises(ConfigError, match=r"is not for 10\.0\.0\.9"):
        check_own_files(own, "g", "n1", ("10.0.0.9",), now)
    authority.init(force=True)
    authority.forget_old()
    with pytest.raises(ConfigError, match="is of another CA"):
        check_own_files(own, "g", "n1", REPLICAS["n1"], now)
    mixed = TlsFiles(own.ca, own.certificate, str(tmp_path / "client-key.pem"))
    with pytest.raises(ConfigError, match="must be a certificate and its key"):
        check_own_files(mixed, "g", "n1", REPLICAS["n1"], now)
    (tmp_path / "n1-key.pem").unlink()
    with pytest.raises(ConfigError, match="there is no such file; make certificates with"):
        check_own_files(own, "g", "n1", REPLICAS["n1"], now)
