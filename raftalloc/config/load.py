"""From cluster.toml and the environment to a Config.

An option is overridden by the variable `RAFTALLOC_<SECTION>_<OPTION>`, e.g. `RAFTALLOC_LOGGING_LEVEL=debug`.
"""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from raftalloc.config.options import SECTIONS, Address, Config, Replica
from raftalloc.config.source import Source

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENT_PREFIX: Final = "RAFTALLOC_"
REPLICA_COUNTS: Final = range(1, 8)
_ADDRESSES: Final = ("grpc", "raft", "http")


def load_config(path: str | Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read cluster.toml, overridden by the environment (None: this process's). Raises ConfigError.

    A relative storage.data_dir is taken from the directory that the file is in.
    """
    source = Source.read(Path(path), os.environ if environment is None else environment)
    source.refuse_unknown((), ("cluster", "replicas", *SECTIONS))
    source.refuse_unknown(("cluster",), ("id",))
    if not source.has(("cluster", "id")):
        raise source.error(("cluster",), "has no id", 'name the group: id = "agents"')
    cluster_id = source.name(("cluster", "id"))
    config = _configured(source, cluster_id, Path(path).resolve().parent)
    return replace(config, replicas=_replicas(source, config), path=str(path))


def embedded_config(data_dir: str | Path, environment: Mapping[str, str] | None = None) -> Config:
    """One replica in this process, without addresses, on this directory; defaults but for the environment."""
    source = Source.empty(os.environ if environment is None else environment)
    config = _configured(source, "embedded", Path.cwd())
    storage = replace(config.storage, data_dir=str(Path(data_dir).absolute()))
    return replace(config, storage=storage)


def variable_of(section: str, key: str) -> str:
    """The environment variable that overrides an option."""
    return f"{ENVIRONMENT_PREFIX}{section}_{key}".upper()


def _configured(source: Source, cluster_id: str, base: Path) -> Config:
    """Every section, checked one by one and against one another."""
    _refuse_unknown_variables(source)
    sections: dict[str, Any] = {name: _section(source, name) for name in SECTIONS}
    config = Config(cluster_id, **sections)
    _check_timing(source, config)
    storage = replace(config.storage, data_dir=str(base / config.storage.data_dir))
    # What the environment names is meant from where the process is; what the file names, from where the file is.
    at = Path.cwd() if variable_of("tls", "directory") in source.environment else base
    tls = replace(config.tls, directory=str(at / config.tls.directory))
    return replace(config, storage=storage, tls=tls)


def _section(source: Source, name: str) -> object:
    """A section's options from the environment, else from the file, else as they are by default."""
    kind = SECTIONS[name]
    options = fields(kind)
    source.refuse_unknown((name,), tuple(item.name for item in options))
    values: dict[str, int | str] = {}
    for item in options:
        path, variable = (name, item.name), variable_of(name, item.name)
        if not source.has(path, variable):
            continue
        if item.type == "int":
            bounds = item.metadata["low"], item.metadata["high"]
            values[item.name] = source.integer(path, variable, *bounds)
        else:
            values[item.name] = source.text(path, variable, item.metadata["choices"])
    return kind(**values)


def _refuse_unknown_variables(source: Source) -> None:
    """A variable that begins like an option and is none is a slip; others with our prefix are someone else's."""
    known = {
        variable_of(section, item.name)
        for section, kind in SECTIONS.items()
        for item in fields(kind)
    }
    source.refuse_unknown_variables(known, tuple(variable_of(section, "") for section in SECTIONS))


def _replicas(source: Source, config: Config) -> tuple[Replica, ...]:
    """The members; no address may be used twice."""
    table = source.table(("replicas",))
    if len(table) not in REPLICA_COUNTS:
        raise source.error(
            ("replicas",),
            f"has {len(table)} replicas",
            "name 1 to 7; best 1, 3 or 5, since an even number survives no more losses than one fewer",
        )
    taken: dict[Address, str] = {}
    reasons = _only_loopback(config)
    return tuple(_replica(source, replica_id, taken, reasons) for replica_id in table)


def _only_loopback(config: Config) -> dict[str, str]:
    """By kind of address, why it must be on loopback."""
    without_tls = 'TLS is off; set [tls] mode = "mutual"' if config.tls.mode == "off" else ""
    http = (
        'the HTTP port has no TLS and asks nobody who he is; set [http] beyond_loopback = "allow"'
    )
    allowed = config.http.beyond_loopback == "allow"
    return {"grpc": without_tls, "raft": without_tls, "http": "" if allowed else http}


def _replica(
    source: Source, replica_id: str, taken: dict[Address, str], only_loopback: Mapping[str, str]
) -> Replica:
    """One member; `taken` gathers the addresses of all."""
    where = ("replicas", replica_id)
    source.check_name(where, replica_id)
    if replica_id in ("ca", "client") or replica_id.startswith("client-"):
        problem = f"{replica_id} is what another certificate is called"
        raise source.error(where, problem, 'name it "n1"')
    source.refuse_unknown(where, _ADDRESSES)
    addresses = []
    for key in _ADDRESSES:
        path = (*where, key)
        if not source.has(path):
            raise source.error(where, f"has no {key} address", f'write {key} = "127.0.0.1:PORT"')
        address = Address(*source.address(path, only_loopback=only_loopback[key]))
        if address in taken:
            problem = f"{address} is already the {taken[address]}"
            raise source.error(path, problem, "give each address a port of its own")
        taken[address] = f"{key} address of {replica_id}"
        addresses.append(address)
    return Replica(replica_id, *addresses)


def _check_timing(source: Source, config: Config) -> None:
    """Elections must not be shorter than a few heartbeats, nor their range empty."""
    raft = config.raft
    if raft.election_max_ms <= raft.election_min_ms:
        raise source.error(
            ("raft", "election_max_ms"),
            f"{raft.election_max_ms} is not above election_min_ms, {raft.election_min_ms}",
            "leave a range, so that candidates do not collide",
        )
    if raft.election_min_ms <= 3 * raft.heartbeat_ms:
        raise source.error(
            ("raft", "election_min_ms"),
            f"{raft.election_min_ms} is not above three heartbeats of {raft.heartbeat_ms}",
            "raise it, or lower heartbeat_ms",
        )
