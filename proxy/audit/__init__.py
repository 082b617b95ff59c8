"""Floor 3: the trail of every change of a token's life: who asked for it, from where, and what came of it.

`record` is one line and its chain, `trail` the file that several processes append to, `head` what is known of its end,
`operation` puts it around a store, `verify` reads it all again. It decides nothing about tokens; but what cannot be
recorded is not changed.
"""
