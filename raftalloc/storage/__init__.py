"""What a replica keeps beside its journal: blocks of events by index, secondary indices, snapshots. Only bytes."""
