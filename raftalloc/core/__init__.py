"""The allocator: a pure function from a log of entries to a state, events and answers.

THEORY OF OPERATION

An ENTRY is a block of COMMANDS that the leader stamped with a time (`commands`). Every replica gives the same
entries, in the order of their index, to `machine.apply`. What a command does is decided by generators that read
the STATE and yield EVENTS (`requests`, `operations`, `booking`); each event is carried out by `evolve`, the
only writer, before the generator goes on. Around every command `settle` fires what the state itself calls for:
leases run out, windows open and close, waiting requests start. A refusal is a value (`rejections`) and an
event. So

    state == fold(events)      to the last byte, on every replica, in every process, for ever

and everything that users ask (`views`, `explain`) is a question to a state that can be had again for any index kept.

WHERE THINGS LIE

    quantities kinds           units, bounds; kind <-> column
    commands events records rejections    what may be asked, happened, is answered, is refused: plain records
    table names matrix fleet quotas leases queues reservations sessions deadlines    the parts of the state, one
    concept each state                      their sum placement profiles admission    filter, rank, choose; what
    will be free; quota and queue requests booking operations settle dedupe    the decisions evolve machine
    what events change; the order of things layout codec snapshot      records as columns; entries, events and
    the state as bytes views explain invariants   reading, explaining, proving

LAWS: no clock, randomness, thread, socket, file, environment or logging; no set, hash() or float; int64 and
Python ints. Ties end at registration order. A test reads this source and says so.
"""
