"""Floor 3: the use cases of a token's life, each once, for every mouth: the command line, the admin API, the schedule.

A use case reads the store, asks the rules in `tokens/`, commits, tells the server, and returns a value: a `Report` of
what was done or a `Refusal` that says what to do instead. It may block (store, sinks, canary): never call one on the
event loop. It decides nothing about a token (the rules do), prints nothing and knows no config file.
"""
