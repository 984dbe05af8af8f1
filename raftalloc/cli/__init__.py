"""The `raftalloc` command: one module per noun, each a client of the public API.

`main` puts them together, `connection` opens the group and turns errors into exit codes, `arguments` reads what people
type, `output` prints. `group` and `process` run replicas on this machine; `demo` is the demonstration.
"""
