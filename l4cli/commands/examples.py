"""The examples at the end of each command's help. `tests/cli/test_help.py` parses every one."""

from __future__ import annotations

_EXAMPLES = {
    "l4": """
        l4 chat
        l4 ask report.pdf "What changed since last year?"
        l4 run prompts.jsonl -o answers.jsonl
    """,
    "l4 run": """
        l4 run prompts.jsonl > answers.jsonl
        l4 run reviews.csv --template-row 'Sum up: {{ text }}' -o sums.jsonl
        l4 run prompts.jsonl -o answers.jsonl --resume
    """,
    "l4 chat": """
        l4 chat
        l4 chat "What is GGUF?"
        git diff | l4 chat -p "Write a commit message"
    """,
    "l4 ask": """
        l4 ask manual.pdf "How is the pump primed?" --quote
        l4 ask contracts/ --questions questions.txt --json
        l4 ask book.epub "Who is the narrator?" --split
    """,
    "l4 serve": """
        l4 serve
        l4 serve -m qwen3-0.6b --port 9000 --api-key @key.txt
        l4 serve -m scout -m demo --ctx 32k --parallel 8
    """,
    "l4 docs list": """
        l4 docs list
        l4 docs list --json
    """,
    "l4 docs add": """
        l4 docs add manual.pdf
        l4 docs add contracts/ -m scout
    """,
    "l4 docs text": """
        l4 docs text invoice.pdf
        l4 docs text report.docx --places
    """,
    "l4 docs rm": """
        l4 docs rm manual.pdf
        l4 docs rm manual.pdf report.docx
    """,
    "l4 docs prune": """
        l4 docs prune --limit 20G
        l4 docs prune --all
    """,
    "l4 sessions list": """
        l4 sessions
        l4 sessions list --json
    """,
    "l4 sessions show": """
        l4 sessions show pumps
        l4 sessions show pumps | less
    """,
    "l4 sessions export": """
        l4 sessions export pumps -o pumps.md
        l4 sessions export pumps -o pumps.json
    """,
    "l4 sessions search": """
        l4 sessions search "access code"
        l4 sessions search "pump house"
    """,
    "l4 sessions rm": """
        l4 sessions rm pumps
        l4 sessions rm pumps gardens
    """,
    "l4 templates list": """
        l4 templates
        l4 templates list --json
    """,
    "l4 templates show": """
        l4 templates show translate
        l4 templates show translate > translate.toml
    """,
    "l4 templates edit": """
        l4 templates edit translate
        l4 templates edit summary
    """,
    "l4 templates rm": """
        l4 templates rm translate
        l4 templates rm translate summary
    """,
    "l4 templates path": """
        l4 templates path
        l4 templates path translate
    """,
    "l4 convert": """
        l4 convert path/to/checkpoint -o model.gguf --type Q4_K_M
        l4 convert path/to/checkpoint --type list
        l4 convert ORG/NAME --hub -o model.gguf --type Q8_0 --verify
    """,
    "l4 quantize": """
        l4 quantize model-BF16.gguf -o model-Q4_K_M.gguf --type Q4_K_M
        l4 quantize model-BF16.gguf -o model-Q8_0.gguf --type Q8_0 --verify
    """,
    "l4 imatrix": """
        l4 imatrix model-Q8_0.gguf -o imatrix.gguf
        l4 imatrix model.gguf --text a.txt --text b.txt --coverage 100
        l4 imatrix --merge a.gguf b.gguf -o both.gguf
    """,
    "l4 info": """
        l4 info model.gguf
        l4 info demo --tensors
    """,
    "l4 models list": """
        l4 models
        l4 models --json
    """,
    "l4 models alias": """
        l4 models alias mine ~/models/mine-Q4_K_M.gguf
        l4 models alias
    """,
    "l4 config show": """
        l4 config
        l4 config show --json
    """,
    "l4 config get": """
        l4 config get model
        l4 config get chat.temperature
    """,
    "l4 config path": """
        l4 config path
        l4 config path | head -1
    """,
    "l4 config edit": """
        l4 config edit
        l4 config edit models
    """,
    "l4 config set": """
        l4 config set model scout
        l4 config set chat.temperature 0.3
    """,
    "l4 config unset": """
        l4 config unset model
        l4 config unset chat.temperature
    """,
    "l4 pull": """
        l4 pull scout:Q4_K_M
        l4 pull hf.co/ORG/NAME:Q8_0 --dry-run
    """,
    "l4 rm": """
        l4 rm scout:Q4_K_M
        l4 rm scout:Q4_K_M --yes
    """,
    "l4 bench": """
        l4 bench
        l4 bench model.gguf --json
    """,
    "l4 ctx-test": """
        l4 ctx-test -m model.gguf
        l4 ctx-test --lengths 4k,32k --tasks literal
    """,
    "l4 eval": """
        l4 eval model-Q4_K_M.gguf --against model-BF16.gguf
        l4 eval model-Q4_K_M.gguf model-Q8_0.gguf --against model-BF16.gguf
        l4 eval demo --task questions.jsonl --json
    """,
    "l4 experts": """
        l4 experts demo
        l4 experts model.gguf notes.md --with code.py
        l4 experts model.gguf rows.jsonl --json
    """,
    "l4 plan": """
        l4 plan scout
        l4 plan scout --ram 64G --gpu 24G
        l4 plan model.gguf --ctx 128k
    """,
    "l4 doctor": """
        l4 doctor
        l4 doctor --json > report.json
    """,
    "l4 completion": """
        l4 completion --install
        l4 completion zsh > ~/.zfunc/_l4
    """,
}


def examples(command: str) -> list[str]:
    """Lines that can be typed as they stand, for a command by its full name ("l4 docs add")."""
    return [line.strip() for line in _EXAMPLES.get(command, "").strip().splitlines()]
