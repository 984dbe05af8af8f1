"""`python -m raftalloc.agent`: keeps this machine in the fleet as a node until SIGTERM or SIGINT.

Exit status: 0 stopped, 1 refused or unreachable, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict

from raftalloc.agent.machine import discover
from raftalloc.agent.node import NodeAgent
from raftalloc.client.client import Client
from raftalloc.client.quantities import units_of
from raftalloc.config import load_config, tls_of_client
from raftalloc.errors import InvalidRequest, RaftallocError

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger("raftalloc.agent")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; answers the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        asyncio.run(_run(options))
    except InvalidRequest as error:
        sys.stderr.write(f"raftalloc.agent: {error}\n")
        return 2
    except RaftallocError as error:
        sys.stderr.write(f"raftalloc.agent: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m raftalloc.agent", description="Makes this machine a node of the fleet."
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--endpoints", help="replicas: 127.0.0.1:7001,127.0.0.1:7002")
    where.add_argument("--config", help="a cluster.toml, whose replicas are asked")
    where.add_argument(
        "--show", action="store_true", help="print what would be registered, as JSON"
    )
    parser.add_argument("--node-id", default="", help="default: the name of this host")
    parser.add_argument("--attribute", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--capacity",
        action="append",
        default=[],
        metavar="KIND=AMOUNT",
        help="in whole units, instead of what is found: disk=100; 0 leaves the kind out",
    )
    parser.add_argument("--disk-path", default="/", help="whose filesystem is offered as disk")
    return parser


async def _run(options: argparse.Namespace) -> None:
    """Register and heartbeat until a signal."""
    if options.show:
        agent = _agent(Client(["127.0.0.1:1"]), options)
        found = agent.request_of(discover(disk_path=options.disk_path))
        shown = MessageToDict(found, preserving_proto_field_name=True)
        sys.stdout.write(json.dumps(shown, indent=2, sort_keys=True) + "\n")
        return
    async with _client(options) as client:
        agent = _agent(client, options)
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        await agent.start()
        ends = [asyncio.create_task(agent.wait()), asyncio.create_task(stopped.wait())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        await agent.stop()
        ends[1].cancel()
        await ends[0]  # raises what ended the agent, if anything but us did


def _client(options: argparse.Namespace) -> Client:
    """Of the group that the arguments name, with the certificates there are for it."""
    if options.endpoints:
        endpoints = options.endpoints.split(",")
        return Client(endpoints, tls=tls_of_client(endpoints))
    config = load_config(options.config)
    return Client(config.endpoints(), tls=config.tls_files("client"))


def _agent(client: Client, options: argparse.Namespace) -> NodeAgent:
    """The agent that the arguments ask for. Raises InvalidRequest."""
    capacity = {
        kind: units_of(kind, amount, field=f"--capacity {kind}", zero=True)
        for kind, amount in _pairs(options.capacity, "--capacity")
    }
    return NodeAgent(
        client,
        node_id=options.node_id,
        attributes=dict(_pairs(options.attribute, "--attribute")),
        capacity=capacity,
        find=partial(discover, disk_path=options.disk_path),
    )


def _pairs(texts: Sequence[str], name: str) -> list[tuple[str, str]]:
    """`KEY=VALUE` texts, taken apart."""
    pairs = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise InvalidRequest(name, f"{text[:60]!r} is no pair", f"write {name} key=value")
        pairs.append((key, value))
    return pairs


if __name__ == "__main__":
    sys.exit(main())
