"""How long a context a model can use: facts hidden in text of exact lengths, and asked for."""
