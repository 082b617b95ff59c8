"""Floor 3: the data plane. It moves bytes, keeps deadlines, and does what the gate decided; it decides nothing.

Read `connection` (a client's bytes in), then `exchange` (one request and its answer), then `upstream`.
"""
