"""promgate measured beside nginx, HAProxy and Caddy: `python -m bench`, and `bench.fleet`, `bench.hotspots`.

Everything is a report: no figure here fails a build. What is measured is CPU time per request, because ratios
of it between servers of the same round hold on any machine, and requests per second do not.
"""
