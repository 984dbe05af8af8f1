"""A group of replicas as processes of this machine: `raftalloc up`, the demonstration and tests/cluster stand on it.

A group lives in a directory:

    group.toml    its configuration, where none was given from elsewhere
    run.json      which configuration it runs with, and the process of each replica
    logs/n1.log   what each replica writes
    data/n1/      its data, where group.toml is ours
    certs/        its certificates, where group.toml is ours

Starting, killing and looking are done here and by nobody else; the group is spoken to through the public API, as all
that stands outside does.
"""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from raftalloc.api.v1 import admin_pb2
from raftalloc.cli.loopback import HOST, free_ports, is_free
from raftalloc.cli.process import Process
from raftalloc.client.transport import GrpcTransport
from raftalloc.config import load_config
from raftalloc.errors import ConfigError, DataDirectoryError, RaftallocError, Unavailable
from raftalloc.security.authority import Authority
from raftalloc.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from raftalloc.config import Config
    from raftalloc.security.files import TlsFiles

DEFAULT_DIRECTORY: Final = "local"
FIRST_PORTS: Final = {"grpc": 7001, "raft": 7101, "http": 7201}
START_SECONDS: Final = 60.0
"""A replica may fold a long log first."""
STOP_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05
_CALL_SECONDS: Final = 2.0
_LOG_LINES: Final = 5
_STATUS: Final = "/raftalloc.api.v1.Admin/Status"


class GroupError(RaftallocError):
    """A replica did not start, or did not stay."""


class LocalGroup:
    """The replicas of one configuration. Asynchronous where it waits; `async with` stops and closes what it started."""

    def __init__(
        self, directory: Path, config: Config, processes: Mapping[str, Process] | None = None
    ) -> None:
        """See `create` and `open`."""
        self.directory = directory
        self.config = config
        self._processes = dict(processes or {})
        self._transports: dict[str, GrpcTransport] = {}

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        replicas: int = 3,
        cluster_id: str = "local",
        any_ports: bool = False,
        settings: Mapping[str, Mapping[str, int | str]] | None = None,
    ) -> Self:
        """A new group with a configuration of its own, on 7001 and so on, or any free ports.

        settings: section -> option -> value, as in cluster.toml.
        """
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "group.toml"
        path.write_text(
            _toml(replicas, cluster_id, any_ports=any_ports, settings=settings or {}),
            encoding="utf-8",
        )
        return cls(directory, load_config(path))

    @classmethod
    def configured(cls, directory: Path, path: Path) -> Self:
        """A group as a configuration of the user's has it."""
        return cls(directory, load_config(path))

    @classmethod
    def find(cls, directory: Path) -> Self | None:
        """The group that was started from this directory, or None."""
        try:
            record = json.loads((directory / "run.json").read_text(encoding="utf-8"))
            config = record["config"]
            processes = {
                name: Process(int(row["pid"]), int(row["started_ticks"]))
                for name, row in record["replicas"].items()
            }
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            path = directory / "run.json"
            raise DataDirectoryError(
                f"{path} is damaged ({error}); remove it if no replica of it runs"
            ) from error
        return cls(directory, load_config(config), processes)

    async def __aenter__(self) -> Self:
        """Nothing is started yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop what runs."""
        await self.stop()

    @property
    def replica_ids(self) -> list[str]:
        """In the order of the configuration."""
        return [replica.replica_id for replica in self.config.replicas]

    @property
    def endpoints(self) -> list[str]:
        """The gRPC addresses, in the same order."""
        return list(self.config.endpoints())

    def endpoint(self, replica_id: str) -> str:
        """The gRPC address of one."""
        return str(self.config.replica(replica_id).grpc)

    def alive(self, replica_id: str) -> bool:
        """Whether its process runs."""
        process = self._processes.get(replica_id)
        return process is not None and process.alive()

    def running(self) -> list[str]:
        """Those whose processes run."""
        return [replica_id for replica_id in self.replica_ids if self.alive(replica_id)]

    def pid(self, replica_id: str) -> int:
        """Of its process, running or not; 0 if there never was one."""
        process = self._processes.get(replica_id)
        return process.pid if process else 0

    def log(self, replica_id: str) -> Path:
        """What it writes."""
        return self.directory / "logs" / f"{replica_id}.log"

    @property
    def tls(self) -> TlsFiles | None:
        """What a client of this group uses."""
        return self.config.tls_files("client")

    def certify(self) -> None:
        """Make the certificates that are missing or end soon, where the key of the group's CA is here to do it."""
        if self.config.tls.mode == "off":
            return
        now_s = SystemClock().wall_ms() // 1000
        authority = Authority(self.config.tls.directory, self.config.cluster_id, now_s)
        authority.ensure(self.config.tls_addresses())

    def start(self, *replica_ids: str) -> list[str]:
        """Start those named, or all; what runs already stays as it is. Answers what was started.

        Raises GroupError, and starts nothing, if a port is in use.
        """
        wanted = [name for name in replica_ids or self.replica_ids if not self.alive(name)]
        self._check_ports(wanted)
        self.certify()
        for replica_id in wanted:
            arguments = ("--config", self.config.path, "--replica", replica_id)
            self._processes[replica_id] = Process.spawn(
                "raftalloc.server.main", arguments, self.log(replica_id)
            )
        self._write_record()
        return wanted

    def signal(self, replica_id: str, number: signal.Signals) -> bool:
        """Send a signal to one; False if it did not run."""
        process = self._processes.get(replica_id)
        return process is not None and process.send(number)

    async def kill(self, replica_id: str) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(replica_id, signal.SIGKILL)
        await self.wait_ended(replica_id)

    async def stop(self, seconds: float = STOP_SECONDS) -> list[str]:
        """SIGTERM to all that run, SIGKILL to what is left after `seconds`. Answers the ones that had to be killed."""
        await self.close()
        running = self.running()
        for replica_id in running:
            self.signal(replica_id, signal.SIGTERM)
        left = await self.wait_ended(*running, seconds=seconds) if running else []
        for replica_id in left:
            await self.kill(replica_id)
        (self.directory / "run.json").unlink(missing_ok=True)
        return left

    async def close(self) -> None:
        """Let go of the connections; the replicas run on."""
        transports, self._transports = list(self._transports.values()), {}
        for transport in transports:
            await transport.close()

    def transport(self, replica_id: str) -> GrpcTransport:
        """A connection to this replica itself, whoever leads."""
        if replica_id not in self._transports:
            self._transports[replica_id] = GrpcTransport(self.endpoint(replica_id), self.tls)
        return self._transports[replica_id]

    async def status(
        self, replica_id: str, *, with_digest: bool = False, seconds: float = _CALL_SECONDS
    ) -> admin_pb2.StatusResponse:
        """What one replica says of itself."""
        request = admin_pb2.StatusRequest(with_digest=with_digest)
        answer, _ = await self.transport(replica_id).unary(
            _STATUS, request, admin_pb2.StatusResponse, timeout=seconds
        )
        return answer

    async def statuses(
        self, *, with_digest: bool = False, seconds: float = _CALL_SECONDS
    ) -> dict[str, admin_pb2.StatusResponse | RaftallocError]:
        """What all say, asked at the same time; of one that does not answer, why."""
        asked = (
            self._try_status(name, with_digest=with_digest, seconds=seconds)
            for name in self.replica_ids
        )
        return dict(zip(self.replica_ids, await asyncio.gather(*asked), strict=True))

    async def wait_leader(self, *, seconds: float = START_SECONDS, other_than: str = "") -> str:
        """Until a majority follows one leader and it says so itself; its replica id.

        Raises GroupError if a replica ended meanwhile, Unavailable when the time is over.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + seconds
        while loop.time() < give_up:
            leader = leader_of(await self.statuses())
            if leader and leader != other_than:
                return leader
            self._check_started()
            await asyncio.sleep(_POLL_SECONDS)
        raise Unavailable(f"no leader after {seconds:g} s; see {self.directory / 'logs'}")

    async def wait_answering(self, *replica_ids: str, seconds: float = START_SECONDS) -> None:
        """Until those named, or all, answer. Raises GroupError if one ended."""
        waiting = set(replica_ids or self.replica_ids)
        loop = asyncio.get_running_loop()
        give_up = loop.time() + seconds
        while waiting:
            statuses = await self.statuses()
            waiting -= {
                name for name, status in statuses.items() if not isinstance(status, RaftallocError)
            }
            self._check_started(*waiting)
            if waiting and loop.time() > give_up:
                raise Unavailable(
                    f"{', '.join(sorted(waiting))} did not answer within {seconds:g} s"
                )
            if waiting:
                await asyncio.sleep(_POLL_SECONDS)

    async def wait_ended(self, *replica_ids: str, seconds: float = STOP_SECONDS) -> list[str]:
        """Until those named, or all, have ended; the ones that still run when the time is over."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + seconds
        left = [name for name in replica_ids or self.replica_ids if self.alive(name)]
        while left and loop.time() < give_up:
            await asyncio.sleep(_POLL_SECONDS)
            left = [name for name in left if self.alive(name)]
        return left

    def last_lines(self, replica_id: str) -> str:
        """The end of its log, for messages."""
        try:
            lines = self.log(replica_id).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(lines[-_LOG_LINES:])

    async def _try_status(
        self, replica_id: str, *, with_digest: bool, seconds: float
    ) -> admin_pb2.StatusResponse | RaftallocError:
        try:
            return await self.status(replica_id, with_digest=with_digest, seconds=seconds)
        except RaftallocError as error:
            return error

    def _check_started(self, *replica_ids: str) -> None:
        """Raise if a replica we started has ended by itself."""
        for replica_id in replica_ids or self.replica_ids:
            process = self._processes.get(replica_id)
            if process is None or process.alive() or process.exit_code == -signal.SIGKILL:
                continue
            code = "" if process.exit_code is None else f" with exit code {process.exit_code}"
            raise GroupError(
                f"replica {replica_id} ended{code}; {self.log(replica_id)} says:\n{self.last_lines(replica_id)}"
            )

    def _check_ports(self, replica_ids: Iterable[str]) -> None:
        for replica_id in replica_ids:
            replica = self.config.replica(replica_id)
            for name, address in (
                ("grpc", replica.grpc),
                ("raft", replica.raft),
                ("http", replica.http),
            ):
                if address is not None and not is_free(address.host, address.port):
                    raise GroupError(
                        f"{self.config.path}: {address}, the {name} address of {replica_id}, is in use;"
                        " end what listens there, or choose another port"
                    )

    def _write_record(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        replicas = {
            name: {"pid": p.pid, "started_ticks": p.started_ticks}
            for name, p in self._processes.items()
        }
        record = {"config": str(Path(self.config.path).resolve()), "replicas": replicas}
        beside = self.directory / "run.json.new"
        beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        beside.replace(self.directory / "run.json")


def leader_of(statuses: Mapping[str, admin_pb2.StatusResponse | RaftallocError]) -> str:
    """The leader that a majority follows and that says so itself, or nothing."""
    answers = [status for status in statuses.values() if not isinstance(status, RaftallocError)]
    leaders = [status for status in answers if status.role == "leader"]
    for leader in leaders:
        followers = sum(status.leader_id == leader.replica_id for status in answers)
        if followers * 2 > len(statuses):
            return leader.replica_id
    return ""


def _toml(
    replicas: int,
    cluster_id: str,
    *,
    any_ports: bool,
    settings: Mapping[str, Mapping[str, int | str]],
) -> str:
    if replicas not in (1, 3, 5):
        raise ConfigError(f"{replicas} replicas: 1, 3 or 5 make a group")
    names = list(FIRST_PORTS)
    if any_ports:
        free = free_ports(replicas * len(names))
    else:
        free = [FIRST_PORTS[name] + row for row in range(replicas) for name in names]
    lines = ["[cluster]", f'id = "{cluster_id}"', ""]
    for section, options in {"storage": {"data_dir": "data"}, **settings}.items():
        lines += [
            f"[{section}]",
            *(f"{key} = {json.dumps(value)}" for key, value in options.items()),
            "",
        ]
    for row in range(replicas):
        lines.append(f"[replicas.n{row + 1}]")
        lines += [
            f'{name} = "{HOST}:{free[row * len(names) + column]}"'
            for column, name in enumerate(names)
        ]
        lines.append("")
    return "\n".join(lines)
