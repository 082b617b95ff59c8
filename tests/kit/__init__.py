"""Real programs of the field on free ports of the loopback, started and ended by the tests.

Nothing here stands in for a part that exists: receivers, agents, vmagent, Alertmanager and node_exporter are
Debian's own. What is made here is only what no package has: a target that counts its scrapes, a switch that
answers a wrong status for a while, and the arithmetic that turns stored samples into "which are missing".
This room never imports `proxy`: the tests that use it see promgate as its users do.
"""
