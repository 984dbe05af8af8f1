"""Certificates for tests: an authority in a directory, and the files of whom it certifies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.security.certificates import Pair, make_ca, make_end
from raftalloc.security.files import TlsFiles
from raftalloc.security.names import CLIENT, REPLICA, Identity
from raftalloc.system import SystemClock

if TYPE_CHECKING:
    from pathlib import Path


def now_s() -> int:
    return SystemClock().wall_ms() // 1000


class Authority:
    """A CA of a group; asked twice for the same it answers the same files."""

    def __init__(self, directory: Path, cluster_id: str) -> None:
        self.directory = directory
        self.cluster_id = cluster_id
        self.ca = make_ca(cluster_id, now_s=now_s(), days=30)
        directory.mkdir(parents=True, exist_ok=True)
        self.bundle = directory / "ca.pem"
        self.bundle.write_bytes(self.ca.certificate)

    def replica(self, name: str, *, ca: Pair | None = None) -> TlsFiles:
        return self.files(Identity(self.cluster_id, REPLICA, name), f"{name}", ca=ca)

    def client(self, name: str, *, ca: Pair | None = None) -> TlsFiles:
        return self.files(Identity(self.cluster_id, CLIENT, name), f"client-{name}", ca=ca)

    def files(
        self,
        identity: Identity,
        file: str,
        *,
        ca: Pair | None = None,
        made_s: int | None = None,
        days: int = 30,
        anew: bool = False,
    ) -> TlsFiles:
        certificate, key = self.directory / f"{file}.pem", self.directory / f"{file}-key.pem"
        if anew or not certificate.exists():
            made = now_s() if made_s is None else made_s
            pair = make_end(
                ca or self.ca, identity, addresses=["127.0.0.1", "::1"], now_s=made, days=days
            )
            certificate.write_bytes(pair.certificate)
            key.write_bytes(pair.key)
        return TlsFiles(str(self.bundle), str(certificate), str(key))

    def renew_ca(self) -> None:
        """A new CA, trusted beside the old one."""
        self.old_ca, self.ca = self.ca, make_ca(self.cluster_id, now_s=now_s(), days=30)
        self.bundle.write_bytes(self.ca.certificate + self.old_ca.certificate)

    def trust_only_new(self) -> None:
        self.bundle.write_bytes(self.ca.certificate)

    def reissue(self, name: str) -> TlsFiles:
        return self.files(Identity(self.cluster_id, REPLICA, name), name, anew=True)

    def of_old_ca(self, name: str) -> TlsFiles:
        return self.files(Identity(self.cluster_id, REPLICA, name), f"old-{name}", ca=self.old_ca)
