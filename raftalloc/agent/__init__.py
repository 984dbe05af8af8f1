"""The node agent: what this machine has becomes a node of the fleet. `python -m raftalloc.agent --help`.

machine.py   what there is: cpu, memory, disk, network, and what the control group allows (cgroups.py)
devices.py   GPUs, where the NVIDIA driver is loaded
node.py      NodeAgent: registers it, sends heartbeats, registers again where it is no longer known
"""
