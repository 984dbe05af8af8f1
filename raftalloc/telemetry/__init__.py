"""How the replica says how it is: logs, metrics."""
