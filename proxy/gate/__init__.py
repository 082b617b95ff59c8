"""Floor 1: one request -> one decision. Read `decide` first.

Pure: no clock, no socket, no log, no await. What it cannot know from memory it asks for, as a value
(`ask`), and is called again with the answer. A denial is a value; an exception is a defect.
"""
