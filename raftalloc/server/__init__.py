"""The daemon: one replica behind gRPC and HTTP, or embedded in another process."""
