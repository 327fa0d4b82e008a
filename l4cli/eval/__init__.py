"""Behind `l4 eval`: how well a model predicts a text, and what it lost against another one.

texts.py      what is evaluated: the built-in text, a file, or rows, as token ids
chunks.py     pure: the windows of a text, and which tokens each decode computes
passing.py    a model's way through the chunks: rows of logits, a few at a time
numerics.py   rows of logits -> numbers of each token, as llama-perplexity defines them
figures.py    pure: numbers of all tokens -> means, errors, percentiles
session.py    measures one model, or models against a reference
planning.py   pure: which models are in memory together, the type of a converted reference
suspicion.py  pure: whether a KL divergence is more than a quantization costs
scratch.py    a folder for models that exist only while they are evaluated
keeping.py    results, kept for `l4 info`
tasks.py      questions with choices or an answer, read from a file
scoring.py    log-likelihoods of continuations; shared beginnings are computed once
grading.py    pure: log-likelihoods -> accuracy, as lm-evaluation-harness defines it
report.py     pure: the results as tables and as JSON
harness.py    the model class `l4` of lm-evaluation-harness
harness_tasks.py  runs the harness's tasks
"""
