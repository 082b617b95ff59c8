"""`make demo`: Prometheus, Alertmanager, an agent and promgate on this machine, and a token rotated while you watch.

Read `__main__` (makes the machine ready with the standard library alone, then becomes `play`), then `play` (the show).
The programs are those of `tests/kit`; what is said on the terminal is in `screen`. Nothing here outlives the demo:
`interrupt`, `leash` and the launcher of `tests/kit/process.py` see to it.
"""
