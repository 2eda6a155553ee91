"""`pinna demo`: the whole chain on this machine, without a sound card, and what it proved."""
