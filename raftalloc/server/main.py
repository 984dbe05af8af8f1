"""`raftallocd`: one replica as a process.

    raftallocd --config cluster.toml --replica n1

Logs go to stderr. SIGTERM and SIGINT end it cleanly; a second one ends it at once. It survives kill -9.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from raftalloc.config import load_config
from raftalloc.errors import ConfigError, DataDirectoryError, RaftallocError
from raftalloc.security.inspection import check_own_files
from raftalloc.server.composition import installed_version, open_replica
from raftalloc.server.grpc_server import GrpcServer
from raftalloc.server.http import HttpServer
from raftalloc.server.parts import system_ports
from raftalloc.system import SystemClock
from raftalloc.telemetry.logs import configure, get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.config import Config, Replica
    from raftalloc.ports import Net
    from raftalloc.raft.local import LocalNetwork
    from raftalloc.server.composition import RunningReplica
    from raftalloc.server.parts import Ports

EXIT_SOFTWARE: Final = 70
EXIT_DIRECTORY: Final = 73
EXIT_CONFIG: Final = 78
_READY_SECONDS: Final = 0.1
_HAND_OVER_SECONDS: Final = 1.5
_EPILOG: Final = f"""\
exit codes:
  0   ended by a signal
  2   wrong arguments
  {EXIT_SOFTWARE}  the replica stopped itself, for a bug or a disk fault: see its log
  {EXIT_DIRECTORY}  the data directory cannot be used
  {EXIT_CONFIG}  the configuration cannot be used, or a port is taken
"""
log = get_logger("raftalloc.server.main")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one replica until a signal; answers the exit code."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if parsed.replica is None and not parsed.check:
        parser.error("--replica is missing: name one of the configuration's")
    if sys.flags.optimize:
        # Assertions guard the state: without them a bug would be written to the log of every replica.
        return _refuse("python -O removes the assertions that guard the state; run without -O", 2)
    try:
        config = load_config(parsed.config)
        if parsed.check and parsed.replica is None:
            return 0
        replica = config.replica(parsed.replica)
        directory = parsed.data_dir or config.data_directory(replica.replica_id)
        warning = check_tls(config, replica)
        if parsed.check:
            return 0
        configure(config.logging.level, config.logging.format, replica.replica_id)
        if warning:
            log.warning("certificate ends soon", what=warning)
        asyncio.run(serve(config, replica, os.path.abspath(directory), system_ports()))
    except ConfigError as error:
        return _refuse(str(error), EXIT_CONFIG)
    except DataDirectoryError as error:
        return _refuse(str(error), EXIT_DIRECTORY)
    except RaftallocError as error:
        log.exception("replica could not start")
        return _refuse(str(error), EXIT_SOFTWARE)
    return 0


async def serve(config: Config, replica: Replica, directory: str, ports: Ports) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError, DataDirectoryError."""
    stop = asyncio.Event()
    _on_signals(stop)
    check_ports(ports.net, config, replica)
    running = await open_replica(
        config, replica.replica_id, ports=ports, directory=directory, on_fatal=_die
    )
    grpc_server = GrpcServer(
        running.backend,
        message_bytes=config.limits.message_bytes,
        tls=config.tls_files(replica.replica_id),
        cluster_id=config.cluster_id,
    )
    http_server = HttpServer(
        metrics=running.metrics.render, health=running.health, ready=running.ready
    )
    try:
        await _listen(config, replica, grpc_server, http_server)
        # What is there now stays: the collector need not look through it again and again.
        gc.freeze()
        log.info("replica is up", grpc=str(replica.grpc), http=str(replica.http), data=directory)
        await _until(stop, running, grpc_server)
    finally:
        await _shut_down(config, running, grpc_server, http_server)


def check_tls(config: Config, replica: Replica) -> str:
    """Raise ConfigError for certificates that will not do; answers a warning, or nothing."""
    files = config.tls_files(replica.replica_id)
    if files is None:
        return ""
    now_s = SystemClock().wall_ms() // 1000
    addresses = config.tls_addresses()[replica.replica_id]
    return check_own_files(files, config.cluster_id, replica.replica_id, addresses, now_s)


def check_ports(net: Net | LocalNetwork, config: Config, replica: Replica) -> None:
    """Raise ConfigError for the first of the replica's ports that something else listens on."""
    for name in ("grpc", "raft", "http"):
        address = getattr(replica, name)
        if not net.can_bind(address.host, address.port):
            raise ConfigError(
                f"{config.path}: {address}, the {name} address of {replica.replica_id}, is in use; "
                "stop what listens there (is this replica already running?), or choose another port"
            )


async def _listen(
    config: Config, replica: Replica, grpc_server: GrpcServer, http_server: HttpServer
) -> None:
    """Open both ports; somebody may have taken one since they were looked at."""
    try:
        await http_server.start(replica.http.host, replica.http.port)
        await grpc_server.start(replica.grpc)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"{config.path}: cannot listen on {replica.grpc} or {replica.http}: {error}"
        ) from error


async def _until(stop: asyncio.Event, running: RunningReplica, grpc_server: GrpcServer) -> None:
    """Tell gRPC health whether the replica is ready, until it is to stop."""
    serving = False
    while not stop.is_set():
        ready = not running.ready()
        if ready != serving:
            serving = ready
            await grpc_server.set_serving(serving=serving)
            log.info("replica is ready" if ready else "replica is not ready", why=running.ready())
        try:
            await asyncio.wait_for(stop.wait(), _READY_SECONDS)
        except TimeoutError:
            continue


async def _shut_down(
    config: Config, running: RunningReplica, grpc_server: GrpcServer, http_server: HttpServer
) -> None:
    """Give the lead away, let calls under way end, close everything."""
    log.info("replica is going down")
    await grpc_server.set_serving(serving=False)
    try:
        await asyncio.wait_for(running.hand_over(), _HAND_OVER_SECONDS)
    except TimeoutError:
        log.info("nobody took the lead over in time")
    running.end_streams()
    await grpc_server.stop(config.timeouts.shutdown_ms / 1000)
    await http_server.close()
    await running.close()
    log.info("replica is down")


def _on_signals(stop: asyncio.Event) -> None:
    """The first asks to stop, the second does not wait."""

    def stopped(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped, number)


def _die(error: BaseException) -> None:
    """The state may be half changed: nothing may be answered or written any more."""
    log.error("replica stops itself", why=str(error), exc_info=error)
    os._exit(EXIT_SOFTWARE)


def _refuse(problem: str, code: int) -> int:
    sys.stderr.write(f"raftallocd: {problem}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="raftallocd",
        description="Run one replica of a raftalloc group.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the group's cluster.toml")
    parser.add_argument(
        "--replica", metavar="ID", help="which of its replicas this one is; --check needs none"
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="this replica's files (default: <storage.data_dir>/<replica> of the configuration)",
    )
    parser.add_argument(
        "--check", action="store_true", help="only read the configuration, and say what is wrong"
    )
    parser.add_argument("--version", action="version", version=installed_version())
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
