"""The wire: code generated from protos/ by scripts/protos, committed, never edited by hand."""
