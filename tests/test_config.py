from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from raftalloc.config import Address, embedded_config, load_config, tls_of_client, variable_of
from raftalloc.config.options import SECTIONS
from raftalloc.errors import ConfigError
from raftalloc.security.files import TlsFiles

EXAMPLE = Path(__file__).resolve().parents[1] / "cluster.toml"
ONE = """\
[cluster]
id = "c"

[replicas.n1]
grpc = "127.0.0.1:1001"
raft = "127.0.0.1:1002"
http = "127.0.0.1:1003"
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    return path


def refusal(tmp_path: Path, text: str, environment: dict[str, str] | None = None) -> str:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, environment or {})
    return str(caught.value).replace(str(path), "FILE")


def test_the_example_is_three_replicas_on_loopback_with_the_defaults():
    config = load_config(EXAMPLE, {})
    assert [each.replica_id for each in config.replicas] == ["n1", "n2", "n3"]
    assert config.endpoints() == ("127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003")
    assert config.replica("n2").http == Address("127.0.0.1", 7202)
    for name, kind in SECTIONS.items():
        if name not in ("storage", "tls"):
            assert getattr(config, name) == kind(), name


def test_the_example_documents_every_option_with_its_default():
    text = EXAMPLE.read_text()
    for name, kind in SECTIONS.items():
        section = re.search(rf"^\[{name}\]\n(.*?)(?=^\[|\Z)", text, re.M | re.S)
        assert section, f"[{name}] is missing"
        for option in fields(kind):
            # The example's certificates are the local group's, which `raftalloc up` makes.
            tls = (name, option.name) == ("tls", "directory")
            default = "local/certs" if tls else option.default
            shown = f'"{default}"' if isinstance(default, str) else str(default)
            line = rf"^(# )?{option.name} = {re.escape(shown)}$"
            assert re.search(line, section[1], re.M), f"{name}.{option.name} = {shown} is missing"


def test_an_example_with_everything_uncommented_is_the_same_configuration(tmp_path: Path):
    text = re.sub(r"^# ([a-z_]+ = )", r"\1", EXAMPLE.read_text(), flags=re.M)
    full, plain = load_config(written(tmp_path, text), {}), load_config(EXAMPLE, {})
    for name in SECTIONS:
        if name not in ("storage", "tls"):
            assert getattr(full, name) == getattr(plain, name)


def test_a_relative_data_dir_starts_at_the_file(tmp_path: Path):
    config = load_config(written(tmp_path, ONE + '[storage]\ndata_dir = "d"\n'), {})
    assert config.data_directory("n1") == str(tmp_path / "d" / "n1")


def test_the_environment_goes_before_the_file(tmp_path: Path):
    path = written(tmp_path, ONE + '[logging]\nlevel = "error"\n[limits]\nwatchers = 7\n')
    config = load_config(path, {"RAFTALLOC_LOGGING_LEVEL": "debug"})
    assert config.logging.level == "debug"
    assert config.limits.watchers == 7
    assert load_config(path, {"RAFTALLOC_LIMITS_WATCHERS": "8"}).limits.watchers == 8


def test_variables_of_others_with_our_prefix_are_left_alone(tmp_path: Path):
    assert load_config(written(tmp_path, ONE), {"RAFTALLOC_ENDPOINTS": "x"}).cluster_id == "c"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[cluster\n", "FILE:1: "),
        (ONE + "[limits]\nwatchers = 1 2\n", "FILE:9: "),
        (ONE + "[limits]\nwatchers = 1\nwatchers = 2\n", "FILE:10: "),
        (ONE + "\n[limts]\n", "FILE:9: limts: is not known; did you mean limits?"),
        (
            ONE + "[limits]\n\nmesage_bytes = 1\n",
            "FILE:10: limits.mesage_bytes: is not known; did you mean message_bytes?",
        ),
        (
            ONE + "[limits]\nwatchers = 0\n",
            "FILE:9: limits.watchers: 0 is out of bounds; write 1 to 65536",
        ),
        (ONE + "[limits]\nwatchers = true\n", "FILE:9: limits.watchers: True is not a whole"),
        (ONE + "[limits]\nwatchers = 1.5\n", "FILE:9: limits.watchers: 1.5 is not a whole"),
        (ONE + "[limits]\nwatchers = [\n 1,\n]\n", "FILE:9: limits.watchers: [1] is not a whole"),
        (ONE + 'limits.watchers = "x"\n', "FILE:8: "),
        (
            ONE + '[placement]\npolicy = "best"\n',
            "FILE:9: placement.policy: 'best' is not known; did you mean best_fit?",
        ),
        (ONE + '[logging]\nlevel = ""\n', "FILE:9: logging.level: '' is not a text"),
        (
            ONE + "[raft]\nelection_max_ms = 200\n",
            "FILE:9: raft.election_max_ms: 200 is not above election_min_ms, 300",
        ),
        (
            ONE + "[raft]\nheartbeat_ms = 100\n",
            "FILE:8: raft.election_min_ms: 300 is not above three heartbeats of 100",
        ),
        (ONE.replace('id = "c"', ""), "FILE:1: cluster: has no id"),
        (ONE.replace('"c"', '"c/../d"'), "FILE:2: cluster.id: 'c/../d' is not a plain name"),
        (
            ONE.replace("1003", "1002"),
            "FILE:7: replicas.n1.http: 127.0.0.1:1002 is already the raft address of n1",
        ),
        (
            ONE.replace("127.0.0.1:1002", "0.0.0.0:1002"),
            "FILE:6: replicas.n1.raft: 0.0.0.0 is no address of a machine",
        ),
        (
            ONE.replace("127.0.0.1:1002", "10.0.0.1:1002") + '[tls]\nmode = "off"\n',
            "FILE:6: replicas.n1.raft: 10.0.0.1 is not a loopback address, and TLS is off",
        ),
        (
            ONE.replace("127.0.0.1:1001", "10.0.0.1:1001") + '[tls]\nmode = "off"\n',
            "FILE:5: replicas.n1.grpc: 10.0.0.1 is not a loopback address, and TLS is off",
        ),
        (
            ONE.replace("127.0.0.1:1003", "10.0.0.1:1003"),
            "FILE:7: replicas.n1.http: 10.0.0.1 is not a loopback address, and the HTTP port has no",
        ),
        (
            ONE.replace("replicas.n1", "replicas.client"),
            "FILE:4: replicas.client: client is what another certificate is called",
        ),
        (
            ONE.replace("127.0.0.1:1002", "localhost:1002"),
            "FILE:6: replicas.n1.raft: host 'localhost' is not an IP address",
        ),
        (ONE.replace(":1002", ":0"), "FILE:6: replicas.n1.raft: port 0 is out of bounds"),
        (ONE.replace(":1002", ""), "FILE:6: replicas.n1.raft: '127.0.0.1' is not an address"),
        (ONE.replace('http = "127.0.0.1:1003"', ""), "FILE:4: replicas.n1: has no http address"),
        (ONE.replace("http", "htp"), "FILE:7: replicas.n1.htp: is not known; did you mean http?"),
        (ONE.replace("replicas.n1", 'replicas."n 1"'), "FILE:4: replicas.n 1: 'n 1' is not a"),
        ('[cluster]\nid = "c"\n', "FILE:1: replicas: has 0 replicas"),
        ('replicas = 3\n[cluster]\nid = "c"\n', "FILE:1: replicas: is not a table"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, expected: str):
    problem = refusal(tmp_path, text)
    assert expected in problem
    assert "; " in problem, "a remedy follows"


def test_more_replicas_than_may_vote_are_refused(tmp_path: Path):
    one = ONE.partition("\n\n")[2]
    more = [one.replace("n1", f"n{n}").replace(":100", f":{n}00") for n in range(2, 9)]
    assert "has 8 replicas; name 1 to 7" in refusal(tmp_path, ONE + "\n".join(more))


def test_a_bad_variable_is_named(tmp_path: Path):
    problem = refusal(tmp_path, ONE, {"RAFTALLOC_LIMITS_WATCHERS": "many"})
    assert problem.startswith("environment: RAFTALLOC_LIMITS_WATCHERS: 'many' is not a whole")
    problem = refusal(tmp_path, ONE, {"RAFTALLOC_LIMITS_WACHERS": "3"})
    assert problem.endswith("is not known; did you mean RAFTALLOC_LIMITS_WATCHERS?")


def test_a_variable_that_does_not_go_with_the_rest_is_named(tmp_path: Path):
    problem = refusal(tmp_path, ONE, {"RAFTALLOC_RAFT_ELECTION_MAX_MS": "200"})
    assert problem.startswith("environment: RAFTALLOC_RAFT_ELECTION_MAX_MS: 200 is not above")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nothing\.toml: cannot be read: No such file"):
        load_config(tmp_path / "nothing.toml", {})
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path, {})


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path: Path):
    path = tmp_path / "cluster.toml"
    path.write_bytes(b'[cluster]\nid = "\xff"\n')
    with pytest.raises(ConfigError, match=r"cluster\.toml:2: is not UTF-8"):
        load_config(path, {})


def test_a_file_of_any_size_is_not_read(tmp_path: Path):
    path = tmp_path / "cluster.toml"
    path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigError, match="is above 1048576 bytes"):
        load_config(path, {})


def test_embedded_takes_defaults_and_variables(tmp_path: Path):
    config = embedded_config(tmp_path / "d", {"RAFTALLOC_STORAGE_SNAPSHOT_ENTRIES": "5"})
    assert config.replicas == ()
    assert config.storage.data_dir == str(tmp_path / "d")
    assert config.storage.snapshot_entries == 5
    with pytest.raises(
        ConfigError, match="environment: RAFTALLOC_RAFT_HEARTBEAT_MS: 1 is out of bounds"
    ):
        embedded_config(tmp_path, {"RAFTALLOC_RAFT_HEARTBEAT_MS": "1"})


def test_an_unknown_replica_is_named_with_those_there_are(tmp_path: Path):
    with pytest.raises(ConfigError, match="there is no replica 'n9'; there are n1"):
        load_config(written(tmp_path, ONE), {}).replica("n9")


def test_a_variable_is_called_after_section_and_option():
    assert variable_of("limits", "message_bytes") == "RAFTALLOC_LIMITS_MESSAGE_BYTES"


def test_with_tls_replicas_may_be_anywhere_and_http_where_it_is_allowed(tmp_path: Path):
    text = ONE.replace("127.0.0.1:1001", "10.0.0.1:1001").replace("127.0.0.1:1002", "[fd00::1]:2")
    text = text.replace("127.0.0.1:1003", "0.0.0.0:1003")
    (tmp_path / "c.toml").write_text(text + '[http]\nbeyond_loopback = "allow"\n')
    config = load_config(tmp_path / "c.toml", {})
    assert config.replica("n1").raft == Address("fd00::1", 2)
    assert config.tls_addresses() == {"n1": ("10.0.0.1", "fd00::1")}


def test_certificates_are_looked_for_beside_the_file_by_the_replicas_name(tmp_path: Path):
    (tmp_path / "c.toml").write_text(ONE)
    config = load_config(tmp_path / "c.toml", {})
    expected = TlsFiles(*(str(tmp_path / "certs" / f"{n}.pem") for n in ("ca", "n1", "n1-key")))
    assert config.tls_files("n1") == expected
    assert config.tls_files("client") == TlsFiles.of_client(tmp_path / "certs")
    elsewhere = load_config(
        tmp_path / "c.toml", {"RAFTALLOC_TLS_DIRECTORY": "/etc/x", "RAFTALLOC_TLS_KEY": "/run/key"}
    ).tls_files("n1")
    assert elsewhere == TlsFiles("/etc/x/ca.pem", "/etc/x/n1.pem", "/run/key")
    off = load_config(tmp_path / "c.toml", {"RAFTALLOC_TLS_MODE": "off"})
    assert off.tls_files("n1") is None


def test_a_client_finds_certificates_in_the_environment_or_in_the_local_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    here = ["127.0.0.1:1001"]
    assert tls_of_client(here, {}) is None
    assert tls_of_client(here, {"RAFTALLOC_TLS_DIRECTORY": "d"}) == TlsFiles.of_client("d")
    single = {"RAFTALLOC_TLS_CA": "a", "RAFTALLOC_TLS_CERTIFICATE": "b", "RAFTALLOC_TLS_KEY": "c"}
    assert tls_of_client(here, single) == TlsFiles("a", "b", "c")
    with pytest.raises(ConfigError, match="RAFTALLOC_TLS_CERTIFICATE: is missing"):
        tls_of_client(here, {"RAFTALLOC_TLS_CA": "a"})
    with pytest.raises(ConfigError, match="set RAFTALLOC_TLS_DIRECTORY"):
        tls_of_client(here, {"RAFTALLOC_TLS_MODE": "mutual"})
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "group.toml").write_text(ONE)
    record = {"config": str(tmp_path / "local" / "group.toml"), "replicas": {}}
    (tmp_path / "local" / "run.json").write_text(json.dumps(record))
    assert tls_of_client(here, {}) == TlsFiles.of_client(tmp_path / "local" / "certs")
    assert tls_of_client(["127.0.0.1:9"], {}) is None
    assert tls_of_client(here, {"RAFTALLOC_TLS_MODE": "off"}) is None
    (tmp_path / "local" / "run.json").write_text("half")
    assert tls_of_client(here, {}) is None
