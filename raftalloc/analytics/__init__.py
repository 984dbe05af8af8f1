"""Pure folds over events into read models: no clock, no I/O, whole numbers.

Each is fed events in the order of the log and may be asked at any time. What they answer is derived
from the events alone, so it can be made again from the event store, for any stretch of it.

    waits.py    how long grants waited, by priority
    usage.py    how much of each kind was taken over time; `series.py` holds the course of it
    tally.py    all of the above, and how requests ended, in one pass over a block of events
"""
