"""A group's certificates in a directory, made and renewed.

    ca.pem              the CAs that are trusted: the newest first, older ones behind it until they are forgotten
    ca-key.pem          the newest CA's key; needed only to issue, and better kept elsewhere
    n1.pem, n1-key.pem  a replica
    client.pem, client-key.pem              the client that `raftalloc` on this machine is
    client-alice.pem, client-alice-key.pem  other clients, by principal

Nothing is overwritten unless it is asked for. Keys have the mode 0600, and every file is put in its place in one step,
so that whoever reads while we write sees the old or the new.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from raftalloc.errors import ConfigError
from raftalloc.security.certificates import (
    Described,
    Pair,
    describe,
    is_signed_by,
    make_ca,
    make_end,
)
from raftalloc.security.names import CLIENT, REPLICA, Identity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CA_DAYS: Final = 3_650
END_DAYS: Final = 365
LOCAL_CLIENT: Final = "local"
"""The principal of client.pem: the name that callers have where there are no certificates."""
DAY_SECONDS: Final = 86_400
RENEW_SECONDS: Final = 30 * DAY_SECONDS
"""What ends sooner than that is pointed out, and made anew where we make certificates by ourselves."""


@dataclass(frozen=True, slots=True)
class Issued:
    """What became of a certificate: "made", "kept" or "stale" (kept, though `why` it should not be)."""

    path: str
    what: str
    until_s: int
    why: str = ""


class Authority:
    """The directory of one group. `now_s`: seconds since the Unix epoch."""

    def __init__(self, directory: str | Path, cluster_id: str, now_s: int) -> None:
        """Nothing is read yet."""
        self.directory = Path(directory)
        self._cluster_id = cluster_id
        self._now_s = now_s

    @property
    def ca_path(self) -> Path:
        """Of the CAs that are trusted."""
        return self.directory / "ca.pem"

    @property
    def exists(self) -> bool:
        """Whether there is a CA."""
        return self.ca_path.exists()

    def init(self, *, days: int = CA_DAYS, force: bool = False) -> Issued:
        """Make a CA if there is none; with `force` a new one, before which the others stay trusted."""
        if self.exists and not force:
            newest = describe(_read(self.ca_path), str(self.ca_path))[0]
            return Issued(str(self.ca_path), "kept", newest.until_s)
        trusted = _read(self.ca_path) if self.exists else b""
        ca = make_ca(self._cluster_id, now_s=self._now_s, days=days)
        self._put("ca-key.pem", ca.key, 0o600)
        self._put("ca.pem", ca.certificate + trusted, 0o644)
        made = describe(ca.certificate, str(self.ca_path))[0]
        return Issued(str(self.ca_path), "made", made.until_s)

    def forget_old(self) -> int:
        """Trust the newest CA only; answers how many are trusted no more."""
        content = _read(self.ca_path)
        end = b"-----END CERTIFICATE-----\n"
        parts = [part + end for part in content.split(end) if part.strip()]
        self._put("ca.pem", parts[0], 0o644)
        return len(parts) - 1

    def replica(
        self,
        replica_id: str,
        addresses: Sequence[str],
        *,
        days: int = END_DAYS,
        force: bool = False,
    ) -> Issued:
        """A replica's certificate, for the IP addresses it is reached at."""
        identity = Identity(self._cluster_id, REPLICA, replica_id)
        return self._issue(replica_id, identity, addresses, days, force=force)

    def client(
        self, principal: str, *, days: int = END_DAYS, force: bool = False, file: str = ""
    ) -> Issued:
        """A client's certificate: `client-<principal>.pem`, or `file`."""
        identity = Identity(self._cluster_id, CLIENT, principal)
        return self._issue(file or f"client-{principal}", identity, (), days, force=force)

    def everybody(
        self, replicas: Mapping[str, Sequence[str]], *, days: int = END_DAYS, force: bool = False
    ) -> list[Issued]:
        """The replicas, by id with their addresses, and client.pem."""
        issued = [
            self.replica(name, addresses, days=days, force=force)
            for name, addresses in replicas.items()
        ]
        return [*issued, self.client(LOCAL_CLIENT, days=days, force=force, file="client")]

    def ensure(self, replicas: Mapping[str, Sequence[str]]) -> list[Issued]:
        """For a group that looks after itself: make what is missing or stale, if the CA's key is here."""
        can_issue = not self.exists or (self.directory / "ca-key.pem").exists()
        if not can_issue:
            return []
        if self.exists and self._is_ending(describe(_read(self.ca_path), str(self.ca_path))[0]):
            self.init(force=True)
        self.init()
        found = self.everybody(replicas)
        stale = {each.path for each in found if each.what == "stale"}
        if not stale:
            return found
        wanted = {n: a for n, a in replicas.items() if str(self.directory / f"{n}.pem") in stale}
        renewed = [self.replica(name, addresses, force=True) for name, addresses in wanted.items()]
        if str(self.directory / "client.pem") in stale:
            renewed.append(self.client(LOCAL_CLIENT, file="client", force=True))
        return [each for each in found if each.path not in stale] + renewed

    def show(self) -> list[tuple[str, Described]]:
        """Every certificate of the directory: file, and what it says."""
        paths = sorted(self.directory.glob("*.pem"))
        ends = [path for path in paths if not path.name.endswith("-key.pem")]
        return [(str(path), each) for path in ends for each in describe(_read(path), str(path))]

    def _issue(
        self, file: str, identity: Identity, addresses: Sequence[str], days: int, *, force: bool
    ) -> Issued:
        path = self.directory / f"{file}.pem"
        if path.exists() and not force:
            found = describe(_read(path), str(path))[0]
            why = self._why_stale(found, identity, addresses, path)
            return Issued(str(path), "stale" if why else "kept", found.until_s, why)
        ca = Pair(_read(self.ca_path), _read(self.directory / "ca-key.pem"))
        now = self._now_s
        pair = make_end(ca, identity, addresses=sorted({*addresses}), now_s=now, days=days)
        # The key first: a certificate without its key is what a reader must not find.
        self._put(f"{file}-key.pem", pair.key, 0o600)
        self._put(f"{file}.pem", pair.certificate, 0o644)
        return Issued(str(path), "made", describe(pair.certificate, str(path))[0].until_s)

    def _why_stale(
        self, found: Described, identity: Identity, addresses: Sequence[str], path: Path
    ) -> str:
        if found.identity != identity:
            return f"it is for {found.identity.uri if found.identity else 'nobody of ours'}"
        if missing := sorted(set(addresses) - set(found.addresses)):
            return f"it is not for {', '.join(missing)}"
        if not is_signed_by(_read(path), _read(self.ca_path)):
            return "it is of another CA"
        if self._is_ending(found):
            return "it ends soon, or has ended"
        return ""

    def _is_ending(self, found: Described) -> bool:
        return found.until_s - self._now_s < min(RENEW_SECONDS, (found.until_s - found.from_s) // 3)

    def _put(self, name: str, content: bytes, mode: int) -> None:
        """Beside it, then in its place."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            path = self.directory / name
            beside = self.directory / f".{name}.new"
            beside.unlink(missing_ok=True)
            with os.fdopen(
                os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb"
            ) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(
                f"{self.directory / name}: cannot be written: {reason}; name another --directory"
            ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        remedy = (
            "bring the CA's key back to issue with it, or begin anew: raftalloc certs init --force"
            if path.name == "ca-key.pem"
            else "make a CA first: raftalloc certs init"
        )
        raise ConfigError(f"{path}: there is no such file; {remedy}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
