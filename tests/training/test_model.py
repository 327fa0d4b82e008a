"""The model that is trained is transformers' Llama 4, and its gap fillings stand for real text."""

from pathlib import Path
from random import Random

import pytest

torch = pytest.importorskip("torch", reason="the `train` extra is not installed")

from training import batches, checkpoint, corpus, tokenizer  # noqa: E402
from training.dimensions import Dimensions  # noqa: E402
from training.key_value_memory import KeyValueMemory  # noqa: E402
from training.long_context import GapFilling  # noqa: E402
from training.model import ExpertBalance, Llama4  # noqa: E402
from training.positions import CHUNK_PLACES  # noqa: E402
from training.render import Renderer  # noqa: E402

pytestmark = pytest.mark.train

BUNDLED = Path(__file__).resolve().parents[2] / "l4cli" / "demo" / "checkpoint"


@pytest.fixture(scope="module")
def bundled():
    return checkpoint.read(BUNDLED)


@pytest.fixture(scope="module")
def bundled_tokenizer():
    return tokenizer.load(BUNDLED / "tokenizer.json")


@torch.no_grad()
def assert_same_logits(folder, model, length):
    """Our logits of two random sequences must be those of transformers, in float32."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    torch.manual_seed(0)
    ids = torch.randint(0, model.dimensions.vocab_size, (2, length))
    expected = theirs(ids).logits.flatten(0, 1)
    positions = torch.arange(length).repeat(2)
    found = model.lm_head(model(ids.flatten(), positions, [0, length], ExpertBalance()))
    assert (found - expected).norm() / expected.norm() < 1e-4
    assert (found.argmax(-1) == expected.argmax(-1)).float().mean() > 0.99


@pytest.mark.parametrize("length", [1, 37, 700])
def test_the_bundled_checkpoint_gives_transformers_logits(bundled, length):
    assert_same_logits(BUNDLED, bundled, length)


def test_chunks_and_temperature_are_transformers_own(bundled_tokenizer, tmp_path):
    """Small chunks, and a temperature that rises early, show at lengths that are cheap."""
    size = bundled_tokenizer.get_vocab_size()
    small = Dimensions(size, hidden=64, expert_width=64, chunk=64, temperature_floor=16)
    torch.manual_seed(0)
    weights = {name: weight.detach() for name, weight in Llama4(small).named_parameters()}
    checkpoint.write(tmp_path, small, weights, bundled_tokenizer)
    model = checkpoint.read(tmp_path)
    assert model.dimensions == small
    assert_same_logits(tmp_path, model, length=300)


@torch.no_grad()
def test_filled_gaps_stand_for_the_text_itself(bundled, bundled_tokenizer):
    """The first half of a document as a gap filling gives the second half's hidden states.

    They differ only as the memory holds keys and values in bfloat16.
    """
    half = CHUNK_PLACES - 24  # so many places are seen without thinning
    conversation = corpus.conversation("reading", Random(4), corpus.HELD_OUT, 4 * half)
    ids = torch.tensor(Renderer(bundled_tokenizer).sample(conversation).ids[: 2 * half])
    assert len(ids) == 2 * half
    positions = torch.arange(len(ids))
    memory = KeyValueMemory()
    access = memory.access([None], positions)
    whole = bundled(ids, positions, [0], ExpertBalance(), memory=access)[half:]
    memory.add(access.new)
    source = (torch.arange(half) + 0.5) / len(ids)
    access = memory.access([GapFilling(positions[:half], source, weight=1.0)], positions[:0])
    second = bundled(ids[half:], positions[half:], [0], ExpertBalance(), memory=access)
    errors = (second - whole).norm(dim=-1) / whole.norm(dim=-1)
    assert errors.median() < 0.01


@torch.no_grad()
def test_the_bundled_checkpoint_uses_all_of_its_experts(bundled, bundled_tokenizer):
    """Every expert of every layer takes 2% to 20% of the tokens of held-out conversations."""
    renderer, rng = Renderer(bundled_tokenizer), Random("4/load")
    drawn = [
        (skill, renderer.sample(corpus.conversation(skill, rng, corpus.HELD_OUT, 600)))
        for skill in corpus.SKILLS
        for _ in range(4 if skill == "reading" else 20)
    ]
    taken, tokens = torch.zeros(()), 0
    for items in batches.group(drawn, batches.BATCH_TOKENS):
        batch, balance = batches.pack(items), ExpertBalance()
        bundled(batch.ids, batch.positions, batch.starts, balance)
        taken = taken + balance.load() * batch.tokens
        tokens += batch.tokens
    shares = taken / tokens
    assert shares.min() > 0.02
    assert shares.max() < 0.2
