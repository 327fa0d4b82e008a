"""A file of prompts in, a file of answers out."""
