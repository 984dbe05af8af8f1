"""One module per service of the API. Each turns requests into commands or reads, and what comes back into messages."""
