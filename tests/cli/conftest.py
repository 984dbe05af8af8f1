"""For tests of commands: the real client over a transport that answers as it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from raftalloc.api.v1 import admin_pb2, allocator_pb2
from raftalloc.cli import connection
from raftalloc.cli.main import app
from raftalloc.client.client import Client


class FakeGroup:
    """Answers by method name; what it was asked is in `asked`, as (method, request)."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self._answers: dict[str, Callable[[Any], Any]] = {}
        self._streams: dict[str, Iterable[Any]] = {}
        self.answer("OpenSession", allocator_pb2.OpenSessionResponse(session=1, index=1))
        self.answer(
            "Status", admin_pb2.StatusResponse(replica_id="n1", role="leader", leader_id="n1")
        )

    def answer(self, method: str, answer: Any) -> None:
        """A message, an exception, or a function of the request. `method` is the name of the RPC, or Service/RPC."""
        self._answers[method] = answer if callable(answer) else lambda _: answer

    def stream(self, method: str, responses: Iterable[Any]) -> None:
        """What a server stream gives; an exception among them is raised."""
        self._streams[method] = list(responses)

    def requests(self, method: str) -> list[Any]:
        """What was asked by this RPC."""
        return [request for name, request in self.asked if name == method]

    def only(self, method: str) -> Any:
        """The one request of this RPC."""
        (request,) = self.requests(method)
        return request

    async def unary(
        self, method: str, request: Any, response_type: type, *, timeout: float, metadata: Any = ()
    ) -> tuple[Any, dict[str, str]]:
        service, _, name = method.removeprefix("/raftalloc.api.v1.").partition("/")
        self._note(name, request)
        found = self._answers.get(f"{service}/{name}") or self._answers[name]
        answer = found(request)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, response_type), f"{name} answered {type(answer)}"
        return answer, {}

    async def streamed(self, method: str, request: Any) -> AsyncIterator[Any]:
        name = method.rpartition("/")[2]
        self._note(name, request)
        for response in self._streams[name]:
            if isinstance(response, BaseException):
                raise response
            yield response

    def stream_of(self, method: str, request: Any, *_: Any, **__: Any) -> AsyncIterator[Any]:
        return self.streamed(method, request)

    def _note(self, name: str, request: Any) -> None:
        """As it was then: the client goes on writing into a request that it repeats."""
        self.asked.append((name, type(request).FromString(request.SerializeToString())))

    async def close(self) -> None:
        return None


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGroup:
    """Every command asks this group; the working directory is empty."""
    fake = FakeGroup()

    class Transport:
        unary = staticmethod(fake.unary)
        stream = staticmethod(fake.stream_of)
        close = staticmethod(fake.close)

    transport: Any = Transport()

    def open_client(_: object, timeout: float) -> Client:
        return Client(transport=transport, timeout=timeout)

    monkeypatch.setattr(connection, "open_client", open_client)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAFTALLOC_ENDPOINTS", raising=False)
    return fake


@pytest.fixture
def raftalloc() -> Callable[..., Result]:
    """Runs `raftalloc words...`."""
    return lambda *words: CliRunner().invoke(app, list(words))
