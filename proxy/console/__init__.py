"""Floor 3: what promgate shows of itself: metrics, health, readiness.

It looks on and changes nothing. It checks no credential: what it shows holds no secret.
"""
