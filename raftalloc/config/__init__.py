"""The configuration: cluster.toml and the `RAFTALLOC_*` environment, read here and nowhere else, into a frozen Config.

`options` says what there is to set, `source` finds values and the lines they stand in, `load` puts them together.
Every error is a ConfigError that names the file and line (or the variable), the key, and what to write instead.
"""

from __future__ import annotations

from raftalloc.config.clients import tls_of_client
from raftalloc.config.load import embedded_config, load_config, variable_of
from raftalloc.config.options import Address, Config, Replica

__all__ = [
    "Address",
    "Config",
    "Replica",
    "embedded_config",
    "load_config",
    "tls_of_client",
    "variable_of",
]
