"""Floor 0: bytes <-> lawful HTTP/1.1 heads and bodies.

What passes here is exactly one message with one meaning; what could be read in two ways is refused
(RFC 9112, and the request-smuggling literature since 2005). A room without IO, clocks, logs or routes.
"""
