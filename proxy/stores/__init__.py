"""Floor 2: where tokens are kept, and how a running server learns of a change.

`sqlite` and `memory` implement `tokens.ports.TokenStore`, one contract (tests/stores/test_store_contract.py), and so
does `unmade`, of which the first change makes a file;
`watch` keeps the server's TokenBook in step with a store, `nudge` lets a command wait until it is.
Knows no HTTP and decides nothing about tokens: the rules are in `tokens.lifecycle`.
"""
