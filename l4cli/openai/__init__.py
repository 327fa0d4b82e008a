"""OpenAI's formats: request bodies and answers, for `l4 run` and `l4 serve`."""
