"""Floor 2: certificates: build a listener's context, watch the pair for change, an own CA, and a look into any PEM.

`context` and `watch` are what `serve` needs, and use the standard library alone. `authority` and `inspect` import
`cryptography.x509`, which costs memory: only the command line does.
"""
