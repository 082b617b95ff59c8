"""Floor 2: one Outcome per request -> the access log (and whoever else wants to know).

A room that looks on: it never changes a decision, and it never sees a secret.
"""
