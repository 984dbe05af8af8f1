"""`python -m raftalloc.cli.demo`."""

from __future__ import annotations

from raftalloc.cli.demo.command import main

main()
