"""Whether a replica's own files will do, before anything is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.errors import ConfigError
from raftalloc.security.authority import RENEW_SECONDS
from raftalloc.security.certificates import describe, is_signed_by
from raftalloc.security.contexts import Reloading
from raftalloc.security.names import REPLICA, Identity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.security.files import TlsFiles

_REMEDY = "make it anew: raftalloc certs issue --force"


def check_own_files(
    files: TlsFiles, cluster_id: str, replica_id: str, addresses: Sequence[str], now_s: int
) -> str:
    """A warning, or empty. Raises ConfigError for files that nobody would take at those addresses."""
    pem = Reloading(files).pem
    found = describe(pem.certificate, files.certificate)[0]
    wanted = Identity(cluster_id, REPLICA, replica_id)
    if found.identity != wanted:
        whose = found.identity.uri if found.identity else found.subject
        raise ConfigError(f"{files.certificate}: is for {whose}, not for {wanted.uri}; {_REMEDY}")
    if not is_signed_by(pem.certificate, pem.ca):
        raise ConfigError(f"{files.certificate}: is of another CA than {files.ca}; {_REMEDY}")
    if missing := sorted(set(addresses) - set(found.addresses)):
        raise ConfigError(f"{files.certificate}: is not for {', '.join(missing)}; {_REMEDY}")
    if now_s >= found.until_s:
        raise ConfigError(f"{files.certificate}: has expired; {_REMEDY}")
    days = (found.until_s - now_s) // 86_400
    if found.until_s - now_s < RENEW_SECONDS:
        return f"{files.certificate} ends in {days} days; {_REMEDY}"
    return ""
