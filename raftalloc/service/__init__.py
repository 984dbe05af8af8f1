"""The use cases: it owns the state, stamps, proposes, reads, watches and keeps time. Knows no wire and no vendor."""
