"""promgate: an authenticating reverse proxy in front of Prometheus and Alertmanager.

The floor plan stands in ARCHITECTURE.md; read proxy/gate/decide.py first.
"""

__version__ = "0.1.0"
