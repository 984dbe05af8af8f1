"""State snapshots as immutable directories: files first, a checksummed manifest last, so that half of one is none.

snap-<index>/state       the state's bytes
snap-<index>/db/         a checkpoint of the event store, where the store has one
snap-<index>/MANIFEST    JSON: index, format, sizes, SHA-256 of the state, the caller's manifest; its own SHA-256
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.ports import Disk

logger = logging.getLogger(__name__)

FORMAT: Final = 1
SNAPSHOTS_KEPT: Final = 2
"""The newest, and one to fall back to."""
_MANIFEST: Final = "MANIFEST"
_STATE: Final = "state"
_PREFIX: Final = "snap-"


class Snapshots:
    """The snapshots below one directory."""

    def __init__(self, disk: Disk, path: str) -> None:
        """The directory is made with the first."""
        self._disk = disk
        self._path = path

    def save(
        self, index: int, state: bytes, manifest: bytes, checkpoint: Callable[[str], None]
    ) -> tuple[str, int]:
        """Write one; answers its path and the bytes of state. One that is there and whole is kept as it is."""
        directory = self._directory(index)
        if self._load(index) is None:
            self._disk.remove_tree(directory)
            self._disk.make_directory(directory)
            checkpoint(f"{directory}/db")
            self._disk.write(f"{directory}/{_STATE}", state)
            self._disk.write(f"{directory}/{_MANIFEST}", _encode(index, state, manifest))
        self._drop_old()
        return directory, len(state)

    def load(self) -> tuple[int, bytes, bytes] | None:
        """The newest that is whole: index, state, manifest."""
        for index in self._indices():
            found = self._load(index)
            if found is not None:
                return (index, *found)
            logger.warning(
                "snapshot %s is damaged or incomplete; passed over", self._directory(index)
            )
        return None

    def load_at(self, index: int) -> tuple[int, bytes, bytes] | None:
        """The newest whole one at or below an index: index, state, manifest."""
        for each in self._indices():
            found = self._load(each) if each <= index else None
            if found is not None:
                return (each, *found)
        return None

    def indices(self) -> list[int]:
        """Of the whole ones, newest first."""
        return [index for index in self._indices() if self._manifest(index) is not None]

    def _directory(self, index: int) -> str:
        return f"{self._path}/{_PREFIX}{index:020d}"

    def _indices(self) -> list[int]:
        names = (
            name.removeprefix(_PREFIX)
            for name in self._disk.list(self._path)
            if name.startswith(_PREFIX)
        )
        return sorted((int(name) for name in names if name.isdigit()), reverse=True)

    def _manifest(self, index: int) -> dict[str, object] | None:
        content = self._disk.read(f"{self._directory(index)}/{_MANIFEST}")
        if content is None:
            return None
        body, _, digest = content.rpartition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            return None
        found = json.loads(body)
        if (
            not isinstance(found, dict)
            or found.get("format") != FORMAT
            or found.get("index") != index
        ):
            return None
        return found

    def _load(self, index: int) -> tuple[bytes, bytes] | None:
        manifest = self._manifest(index)
        state = self._disk.read(f"{self._directory(index)}/{_STATE}")
        if manifest is None or state is None:
            return None
        if hashlib.sha256(state).hexdigest() != manifest["state_sha256"]:
            return None
        return state, base64.b64decode(str(manifest["manifest"]))

    def _drop_old(self) -> None:
        whole = self.indices()
        keep = set(whole[:SNAPSHOTS_KEPT])
        for index in self._indices():
            if index not in keep and index < whole[0]:
                self._disk.remove_tree(self._directory(index))


def _encode(index: int, state: bytes, manifest: bytes) -> bytes:
    body = json.dumps(
        {
            "format": FORMAT,
            "index": index,
            "state_bytes": len(state),
            "state_sha256": hashlib.sha256(state).hexdigest(),
            "manifest": base64.b64encode(manifest).decode(),
        }
    ).encode()
    return body + b"\n" + hashlib.sha256(body).hexdigest().encode()
