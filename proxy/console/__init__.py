"""Floor 4: what promgate shows of itself (metrics, health, readiness), and the control plane: console and admin API.

It checks no credential and no role: what reaches the control plane has passed the gate, which says who it is in fields
that only the gate can write. It holds no rule about tokens either: the use cases are the desk's.
"""
