"""OpenAI's older API: chat completions, completions, models, files, batches; and tokens."""
