"""The conservation laws, checked from scratch: `check(state)` answers what does not hold.

Independent of how the state is kept: everything is summed up again from the live allocations and open windows, in plain
Python integers. O(state); tests run it after every step, a replica on request.
"""

from __future__ import annotations

from collections.abc import Iterator

from raftalloc.core import deadlines
from raftalloc.core.leases import devices_of
from raftalloc.core.lines import shape_of
from raftalloc.core.quantities import DEVICE_UNITS, NODE, scope_of
from raftalloc.core.state import State

Sums = dict[tuple[int, int], int]


def check(state: State) -> list[str]:
    """One sentence for each law that is broken; empty where all hold."""
    return [
        *_rows(state),
        *_devices(state),
        *_quotas(state),
        *_leases(state),
        *_queue(state),
        *_reservations(state),
        *_promises(state),
        *_numbers(state),
    ]


def _used_by_row(state: State) -> Sums:
    sums: Sums = {}
    for row in state.leases.rows.values():
        for kind, amount, supplier in state.leases.parts(row):
            sums[supplier, kind] = sums.get((supplier, kind), 0) + amount
    return sums


def _held_by_row(state: State) -> Sums:
    sums: Sums = {}
    for reservation in state.reservations.by_id.values():
        if not reservation.open:
            continue
        for (kind, _), supplier in zip(
            reservation.made.demand, reservation.made.suppliers, strict=True
        ):
            place = state.fleet.row(supplier), state.kinds.column(kind)
            sums[place] = sums.get(place, 0) + reservation.remaining[kind]
    return sums


def _rows(state: State) -> Iterator[str]:
    """Laws 1 and 3: used and held are what is live and open; free and score follow."""
    matrix, used, held = state.fleet.matrix, _used_by_row(state), _held_by_row(state)
    for row, node_id in enumerate(state.fleet.ids):
        score = 0
        for kind, name in enumerate(state.kinds.names):
            capacity = int(matrix.capacity[row, kind])
            where = f"{node_id or row} {name}"
            if int(matrix.used[row, kind]) != used.get((row, kind), 0):
                yield f"{where}: used {matrix.used[row, kind]}, live {used.get((row, kind), 0)}"
            if int(matrix.held[row, kind]) != held.get((row, kind), 0):
                yield f"{where}: held {matrix.held[row, kind]}, open {held.get((row, kind), 0)}"
            free = capacity - used.get((row, kind), 0) - held.get((row, kind), 0)
            if int(matrix.free[row, kind]) != free:
                yield f"{where}: free {matrix.free[row, kind]}, should be {free}"
            score += max(0, free) * int(matrix.weights[kind])
            if capacity and (scope_of(name) == NODE) != bool(state.fleet.is_node[row]):
                yield f"{where}: capacity on the wrong sort of row"
        if int(matrix.score[row]) != score:
            yield f"{node_id or row}: score {matrix.score[row]}, should be {score}"
        supplied = len(state.leases.by_supplier.get(row, ()))
        if state.fleet.allocations[row] != supplied:
            yield f"{node_id or row}: counts {state.fleet.allocations[row]} of {supplied} allocations"
    for kind, name in enumerate(state.kinds.names):
        total = sum(matrix.capacity[:, kind].tolist())
        if total != state.fleet.totals[kind]:
            yield f"total of {name}: {state.fleet.totals[kind]}, should be {total}"


def _devices(state: State) -> Iterator[str]:
    """Law 2 for devices; a grant never takes a device above its 1000 units."""
    used: Sums = {}
    held: Sums = {}
    for row in state.leases.rows.values():
        node, units = state.leases.get(row, "node"), state.leases.get(row, "device_amount")
        bits = state.leases.get(row, "devices")
        for device in devices_of(bits):
            used[node, device] = used.get((node, device), 0) + units
        gpu = sum(
            amount
            for kind, amount, _ in state.leases.parts(row)
            if state.kinds.names[kind] == "gpu"
        )
        if gpu != units * len(devices_of(bits)):
            yield f"allocation {state.leases.get(row, 'id')}: devices do not add up to {gpu}"
    for reservation in state.reservations.by_id.values():
        node = state.fleet.row(reservation.made.node_id)
        for device, units in reservation.devices.items():
            held[node, device] = held.get((node, device), 0) + units
    fleet = state.fleet
    for row, event in enumerate(fleet.registered):
        count = len(event.devices) if event else 0
        for device in range(fleet.device_used.shape[1]):
            place = row, device
            if int(fleet.device_used[place]) != used.get(place, 0):
                yield f"device {device} of {fleet.ids[row]}: used {fleet.device_used[place]}"
            if int(fleet.device_held[place]) != held.get(place, 0):
                yield f"device {device} of {fleet.ids[row]}: held {fleet.device_held[place]}"
            there = DEVICE_UNITS if device < count else 0
            free = there - used.get(place, 0) - held.get(place, 0)
            if int(fleet.device_free[place]) != free:
                yield f"device {device} of {fleet.ids[row]}: free {fleet.device_free[place]}"
            if device < count and free < 0:
                yield f"device {device} of {fleet.ids[row]} is given out beyond its {there} units"


def _quotas(state: State) -> Iterator[str]:
    """Law 2 for quotas: a node is charged with all that is charged at and below it."""
    quotas = state.quotas
    used: Sums = {}
    counts: dict[int, int] = {}
    for row in state.leases.rows.values():
        for above in quotas.chain(state.leases.get(row, "quota")):
            counts[above] = counts.get(above, 0) + 1
            for kind, amount, _ in state.leases.parts(row):
                used[above, kind] = used.get((above, kind), 0) + amount
    held: Sums = {}
    for reservation in state.reservations.by_id.values():
        for above in quotas.chain(quotas.row(reservation.made.agent_type)):
            for name, amount in reservation.remaining.items():
                place = above, state.kinds.column(name)
                held[place] = held.get(place, 0) + amount
    for row in quotas.rows_in_order():
        name = quotas.names[row]
        if quotas.allocations[row] != counts.get(row, 0):
            yield f"quota {name}: counts {quotas.allocations[row]} of {counts.get(row, 0)}"
        for kind, kind_name in enumerate(state.kinds.names):
            if int(quotas.used[row, kind]) != used.get((row, kind), 0):
                yield f"quota {name} {kind_name}: used {quotas.used[row, kind]}"
            if int(quotas.held[row, kind]) != held.get((row, kind), 0):
                yield f"quota {name} {kind_name}: held {quotas.held[row, kind]}"


def _leases(state: State) -> Iterator[str]:
    """Ids, tokens and names refer to what is there."""
    tokens: dict[int, int] = {}
    for allocation_id, row in state.leases.rows.items():
        get = state.leases.get
        if get(row, "id") != allocation_id:
            yield f"allocation {allocation_id}: its row says {get(row, 'id')}"
        token = get(row, "token")
        if token in tokens or not 0 < token <= state.token:
            yield f"allocation {allocation_id}: token {token} is not its own"
        tokens[token] = allocation_id
        if not 0 < allocation_id < state.next_id:
            yield f"allocation {allocation_id}: not below the next id {state.next_id}"
        expires, ends = get(row, "expires_ms"), get(row, "ends_ms")
        if expires and ends and expires > ends:
            yield f"allocation {allocation_id}: its lease outlives its end"
        quota = get(row, "quota")
        reservation = state.reservations.by_id.get(get(row, "reservation_id"))
        if get(row, "reservation_id") and reservation is None:
            yield f"allocation {allocation_id}: its reservation is gone"
        agent_type = state.names.text(get(row, "agent_type"))
        if reservation is None and state.quotas.names[quota] != agent_type:
            yield f"allocation {allocation_id}: charged to {state.quotas.names[quota]}"
        for _, amount, supplier in state.leases.parts(row):
            if amount <= 0 or not state.fleet.ids[supplier]:
                yield f"allocation {allocation_id}: {amount} from row {supplier}"
    if len(state.leases.rows) != state.leases.table.count():
        yield "the table of allocations has rows that no id leads to"


def _queue(state: State) -> Iterator[str]:
    """Law 5: a request waits in exactly one line, once."""
    in_lines: dict[int, int] = {}
    for shape, line in state.queue.lines.by_shape.items():
        if not line.requests:
            yield "a line without requests was kept"
        for request_id in line.requests:
            in_lines[request_id] = in_lines.get(request_id, 0) + 1
            waiting = state.queue.requests.get(request_id)
            if waiting is None or shape_of(waiting.queued) != shape:
                yield f"request {request_id} stands in another shape's line"
    for request_id, waiting in state.queue.requests.items():
        if in_lines.get(request_id) != 1:
            yield f"request {request_id} stands in {in_lines.get(request_id, 0)} lines"
        if not 0 <= waiting.started < waiting.queued.count:
            yield f"request {request_id}: {waiting.started} of {waiting.queued.count} started"
        if waiting.queued.gang and waiting.started:
            yield f"gang {request_id} started in part"
    for line in state.queue.lines.by_shape.values():
        first, slot = state.queue.requests.get(next(iter(line.requests), 0)), line.slot
        if first is None:
            continue
        table = state.queue.lines
        standing = (table.turn[slot], table.priority[slot], table.level[slot])
        if tuple(map(int, standing)) != (line.first, first.queued.priority, first.level):
            yield f"the line of {line.first} stands in the order as {standing}"
        if table.type_of(int(table.agent_type[slot])) != first.queued.agent_type:
            yield f"the line of {line.first} stands for another agent type"


def _reservations(state: State) -> Iterator[str]:
    """An open window: what remains and what is drawn make up what was booked."""
    for ident, reservation in state.reservations.by_id.items():
        if not reservation.open:
            continue
        drawn: dict[str, int] = {}
        for allocation_id in state.leases.drawn_from(ident):
            for column, amount, _ in state.leases.parts(state.leases.row(allocation_id)):
                name = state.kinds.names[column]
                drawn[name] = drawn.get(name, 0) + amount
        for kind, amount in reservation.made.demand:
            if reservation.remaining[kind] + drawn.get(kind, 0) != amount:
                yield f"reservation {ident}: {kind} does not add up to {amount}"
            if reservation.remaining[kind] < 0:
                yield f"reservation {ident}: more {kind} was drawn than booked"


def _promises(state: State) -> Iterator[str]:
    """A promise is to one that waits; a victim is one of a claim; each stands once under its preemptor."""
    for ident, promise in state.promises.by_id.items():
        if ident not in state.queue.requests:
            yield f"a start is promised to {ident}, which does not wait"
        if promise.made.request_id != ident:
            yield f"the promise to {ident} is to {promise.made.request_id}"
    victims: dict[int, int] = {}
    for row in state.leases.rows.values():
        preemptor = state.leases.get(row, "preemptor")
        if bool(preemptor) != bool(state.leases.get(row, "preempt_ms")):
            yield f"allocation {state.leases.get(row, 'id')} is half a victim"
        if preemptor:
            victims[preemptor] = victims.get(preemptor, 0) + 1
            claim = state.promises.by_id.get(preemptor)
            if claim is None or not claim.made.held:
                yield f"allocation {state.leases.get(row, 'id')} is victim of {preemptor}, which has no claim"
    if {ident: len(rows) for ident, rows in state.leases.victims.items()} != victims:
        yield "the victims of a preemptor are not those that say so"


def _numbers(state: State) -> Iterator[str]:
    """What is due is in the heap of deadlines, and nothing before it."""
    times = [state.leases.deadline_ms(row) for row in state.leases.rows.values()]
    times += [one.queued.deadline_ms for one in state.queue.requests.values()]
    firsts = [line.first for line in state.queue.lines.by_shape.values()]
    waiting = state.queue.requests
    times += [state.queue.ages_ms(waiting[ident]) for ident in firsts if ident in waiting]
    times += [state.queue.seeks_ms(waiting[ident]) for ident in firsts if ident in waiting]
    times += [one.made.end_ms for one in state.reservations.by_id.values()]
    times += [
        state.deadline_of(deadlines.RESERVATION_START, ident) for ident in state.reservations.by_id
    ]
    times += list(state.fleet.deadlines_ms)
    earliest = min((at_ms for at_ms in times if at_ms), default=0)
    first = state.deadlines.first()
    if (first[0] if first else 0) != earliest:
        yield f"the first deadline is {first}, should be at {earliest}"
