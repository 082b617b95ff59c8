"""Floor 2: one Outcome per request -> the access log and the metrics.

A room that looks on: it never changes a decision, and it never sees a secret.
"""
