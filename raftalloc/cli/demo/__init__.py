"""The demonstration: a group of three, 1,000 nodes, agents at work, and a leader killed in the middle.

`workload` says what agents ask for and `fleet` from whom; `agents` run it and keep what was acknowledged; `stage` is
the run; `oracle` judges the event logs afterwards and believes no counter of the servers; `report` is what it came to.
"""
