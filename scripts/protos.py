"""Writes the generated half of raftalloc/api/v1: `python scripts/protos.py OUT`.

The generator is pinned low on purpose: code from an old one runs on newer grpcio and protobuf, never the reverse. The
two versions are a pair (another mypy-protobuf fails with this grpcio-tools), so both are checked first.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PINNED = {"grpcio-tools": "1.76.0", "mypy-protobuf": "5.1.0"}
ROOT = Path(__file__).resolve().parent.parent
PROTO_PATH = ROOT / "protos"


def check_versions() -> None:
    """Leave with a sentence where the pinned generator is not what is installed."""
    for package, wanted in PINNED.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            found = "not installed"
        if found != wanted:
            sys.exit(f"protos: {package} is {found}, must be {wanted}; pip install --group codegen")


def generate(out: Path) -> int:
    """Run protoc over every proto file, sorted, into `out`. Answers protoc's exit code."""
    from grpc_tools import protoc  # type: ignore[import-untyped]  # ships no types

    out.mkdir(parents=True, exist_ok=True)
    protos = sorted(str(path.relative_to(PROTO_PATH)) for path in PROTO_PATH.rglob("*.proto"))
    arguments = [
        "protoc",
        f"--proto_path={PROTO_PATH}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
        *protos,
    ]
    code: int = protoc.main(arguments)
    return code


def main() -> int:
    """Generate into the directory named on the command line."""
    check_versions()
    return generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)


if __name__ == "__main__":
    raise SystemExit(main())
