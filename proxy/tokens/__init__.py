"""Floor 0: the life of a token, as values and pure functions.

A room never touches disk or network and never reads a clock: times are arguments
(unix seconds, float), randomness is an argument, and the world is a port (`ports`).
"""
