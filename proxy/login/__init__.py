"""Floor 2: people and their providers: what is needed to find out whether a login is good.

A room that answers questions; whether a request may pass is the gate's business.
"""
