"""Who is who on the wire: certificates, the names in them, and TLS of connections.

`names` says what a certificate is called; `files` where certificate and keys are; `contexts` reads them, and again when
they change; `channel` is the TLS of one connection without its socket; `certificates` makes them.
"""
