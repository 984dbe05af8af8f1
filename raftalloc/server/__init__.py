"""The daemon: one replica behind gRPC and HTTP, or embedded in another process."""

from __future__ import annotations

import os

# gRPC's core writes a line to stderr for every handshake that fails, so that strangers could fill the disk. It reads
# this when it is imported; whoever wants to see more says so.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
