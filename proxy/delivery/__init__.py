"""Floor 2: where a minted token is put, and the proof that it works: `file`, `command`, `webhook`, `canary`, `renew`.

Every place is a `Sink` of tokens/ports.py, made by `sinks` from what the configuration says. A sink puts a token
whole and lasting into its place, or raises DeliveryError whose text names the target and what to do, never the
secret. It blocks: who calls it does so in a thread. The room never decides when a token is made, and keeps none.
"""
