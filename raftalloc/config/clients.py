"""Which certificates a client of a group uses, where nobody says so.

RAFTALLOC_TLS_MODE=off            none
RAFTALLOC_TLS_DIRECTORY           ca.pem, client.pem and client-key.pem of that directory; each of them can be
RAFTALLOC_TLS_CA, _CERTIFICATE, _KEY                                       named by itself, too
else: those of the group that was started in ./local, if that is where the endpoints are
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from raftalloc.config.load import load_config, variable_of
from raftalloc.errors import ConfigError
from raftalloc.security.files import TlsFiles

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

LOCAL_DIRECTORY: Final = "local"
_FILES: Final = ("ca", "certificate", "key")


def tls_of_client(
    endpoints: Collection[str], environment: Mapping[str, str] | None = None
) -> TlsFiles | None:
    """The files to use for a group at `endpoints`; None is without TLS. Raises ConfigError for half an answer."""
    given = os.environ if environment is None else environment
    mode = given.get(variable_of("tls", "mode"), "")
    if mode == "off":
        return None
    directory = given.get(variable_of("tls", "directory"), "")
    single = {name: given.get(variable_of("tls", name), "") for name in _FILES}
    if directory or any(single.values()):
        return _of_environment(directory, single)
    found = _of_local_group(endpoints)
    if found is None and mode == "mutual":
        raise ConfigError(
            f"environment: {variable_of('tls', 'mode')}: is mutual, and no certificates are named; "
            f"set {variable_of('tls', 'directory')}"
        )
    return found


def _of_environment(directory: str, single: Mapping[str, str]) -> TlsFiles:
    base = Path(directory)
    names = {"ca": "ca.pem", "certificate": "client.pem", "key": "client-key.pem"}
    paths = {}
    for name in _FILES:
        if not single[name] and not directory:
            raise ConfigError(
                f"environment: {variable_of('tls', name)}: is missing beside the others; "
                f"set it, or {variable_of('tls', 'directory')}"
            )
        path = (single[name] or names[name]).replace("{name}", "client")
        paths[name] = str(base / path)
    return TlsFiles(paths["ca"], paths["certificate"], paths["key"])


def _of_local_group(endpoints: Collection[str]) -> TlsFiles | None:
    """Of the group that `raftalloc up` started in ./local, if it is the one that is asked."""
    try:
        record = json.loads((Path(LOCAL_DIRECTORY) / "run.json").read_text(encoding="utf-8"))
        config = load_config(record["config"])
    except (OSError, ValueError, KeyError, TypeError, ConfigError):
        return None  # there is none, or it is damaged, and then it cannot be the one that is meant
    return config.tls_files("client") if set(endpoints) & set(config.endpoints()) else None
