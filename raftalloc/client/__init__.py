"""The async client of the public API, in the order of the way down.

client.py       Client: everything the service can do, by service: `client.allocator.allocate(...)`
services.py     one class per gRPC service, one method per RPC, messages in and out
streams.py      Events.Watch that resumes, AllocateStream that survives a failover
calls.py        retries until the caller's deadline, with the same idempotency
sessions.py     which (session, sequence) names an attempt
routing.py      which replica is asked
transport.py    one replica; statuses.py: from gRPC statuses to raftalloc.errors

requests.py     ResourceRequest, Priority, Policy, Constraint -> messages; quantities.py, times.py: exact conversion
results.py      what the manager answers; leases.py: what a holder can do with a grant
waiting.py      awaiting a queued grant; keepalive.py: renewing leases
"""
