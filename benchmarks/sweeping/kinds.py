"""The kinds of members that a sweep knows."""

from __future__ import annotations

from benchmarks.sweeping import commands, documents, faults, kept, models, prompts, rows, settings
from benchmarks.sweeping.trial import Kind

KINDS = {
    "checkpoints": Kind("damaged checkpoints through convert, plan, info", models.checkpoints),
    "gguf": Kind("GGUFs that say odd things through info, plan, run", models.gguf),
    "gguf-damage": Kind("GGUF headers with wrong bytes, read and run", models.gguf_damage),
    "documents": Kind("documents of every format", documents.documents),
    "archives": Kind("documents in zip archives that no writer writes", documents.archives),
    "encodings": Kind(
        "pages and texts in every encoding, stated in every way", documents.encodings
    ),
    "values": Kind("numbers in rows", rows.values, rows.NUM_VALUES),
    "constraints": Kind("constraints in rows", rows.constraints),
    "rows": Kind("rows in files of every format", rows.rows, rows.NUM_ROWS),
    "injections": Kind("texts of control tokens, by every template", prompts.injections),
    "templates": Kind("chat templates of random pieces", prompts.templates),
    "journals": Kind("damaged journals and notes", kept.journals),
    "sessions": Kind("damaged sessions of chats", kept.sessions),
    "flags": Kind("odd values of options", commands.flags, most_seconds=commands.MOST_SECONDS),
    "settings": Kind("config.toml, models.toml, tools and speeds", settings.settings),
    "faults": Kind(
        "a fault of each sort, to try the sweep out", faults.faults, 1, faults.MOST_SECONDS
    ),
}
