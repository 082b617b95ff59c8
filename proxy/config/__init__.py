"""Floor 2: the file of the operator -> what the gate and the relay use.

`units` reads one word, `schema` names each option once, `read` holds the file against the schema,
`build` says what it means. Keeps no runtime state; the only IO is reading the files that are named.
"""
