"""The replicated log: bytes in, the same bytes out, in one order, on every replica. Knows nothing of what they mean."""
