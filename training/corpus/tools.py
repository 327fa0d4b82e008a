"""Tools: functions in the system prompt, a request, and the call that fits it.

Calls are written as a list of Python calls. A result may follow, which the answer says in a
sentence.
"""

import json
from dataclasses import dataclass
from random import Random
from typing import Any

from training.corpus import guide, values, words
from training.corpus.conversation import Conversation, FunctionRequest, Message, turn
from training.corpus.words import HELD_OUT, TRAIN

NO_CALL = "None of the functions fits this request."
# What an exchange is about, by a random number between 0 and 1. Below the first limit: a function
# that is not offered (hard, so more frequent to train on); below the second: a guide question;
# below the third: parallel calls; below the fourth: two functions; else one call.
KINDS = {HELD_OUT: (0.15, 0.22, 0.4, 0.48), TRAIN: (0.26, 0.34, 0.49, 0.57)}

# Verbs, and how people ask for what they do.
VERBS = {
    "get": ("Get", "Show me", "What is", "Tell me", "I need", "Give me", "Look up"),
    "find": ("Find", "Search", "Look for", "Can you find"),
    "set": ("Set", "Change", "Please set"),
    "send": ("Send", "Please send", "Can you send"),
    "book": ("Book", "Reserve", "Please book", "I want to book"),
    "cancel": ("Cancel", "Please cancel", "I want to cancel"),
    "create": ("Create", "Make", "Please create"),
    "delete": ("Delete", "Remove", "Please delete"),
    "order": ("Order", "Please order", "I would like to order"),
    "check": ("Check", "Please check", "Can you check"),
}  # fmt: skip


# Verbs to train on only; people ask for them by the verb itself. With many verbs the model must
# read which functions are offered, and cannot know them by heart.
MORE_VERBS = (
    "add", "open", "close", "start", "stop", "print", "play", "rent", "share", "count", "move",
    "copy", "clean", "repair", "measure", "paint", "sell", "buy", "record", "rename", "archive",
    "load", "save", "lock", "pause", "list", "update", "compare", "sort", "draw", "approve",
)  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """A parameter of functions.

    kind: its JSON type.
    value: the maker of its values, a name of values.py.
    mention: how a request mentions it.
    about: its description.
    """

    name: str
    kind: str
    value: str
    mention: str
    about: str


# Two parameters with the same mention never meet in one function.
PARAMETERS = (
    Parameter("city", "string", "city", "in {}", "the city"),
    Parameter("place", "string", "city", "near {}", "where"),
    Parameter("destination", "string", "city", "to {}", "where to"),
    Parameter("origin", "string", "city", "from {}", "where from"),
    Parameter("day", "string", "one of days", "on {}", "the day of the week"),
    Parameter("date", "string", "date", "on {}", "the date"),
    Parameter("time", "string", "clock", "at {}", "the time"),
    Parameter("name", "string", "first_name", "called {}", "the name"),
    Parameter("person", "string", "full_name", "for {}", "the person"),
    Parameter("recipient", "string", "first_name", "to {}", "who gets it"),
    Parameter("count", "integer", "2-60", "{} times", "how many times"),
    Parameter("guests", "integer", "1-12", "for {} people", "number of people"),
    Parameter("minutes", "integer", "1-240", "for {} minutes", "how long, in minutes"),
    Parameter("amount", "integer", "1-2000", "over {} euros", "the amount in euros"),
    Parameter("level", "integer", "1-100", "at level {}", "the level"),
    Parameter("colour", "string", "one of colours", "in {}", "the colour"),
    Parameter("id", "string", "code", "with the number {}", "the number"),
    Parameter("topic", "string", "one of goods", "about {}", "the topic"),
    Parameter("user", "string", "made_up", "of {}", "the user's name"),
    Parameter("urgent", "boolean", "yes", "urgently", "whether it is urgent"),
)
# The keys that a function's result may have, and the makers of their values.
RESULTS = {
    "temperature": "-20-40", "sky": "one of skies", "status": "one of states", "price": "3-900",
    "id": "code", "time": "clock", "name": "first_name", "city": "city", "count": "2-90",
    "seat": "code", "day": "one of days",
}  # fmt: skip


@dataclass(frozen=True)
class Function:
    """A function that is offered or asked for."""

    verb: str
    noun: str
    parameters: tuple[Parameter, ...]

    @property
    def name(self) -> str:
        return f"{self.verb}_{self.noun}"

    def schema(self, rng: Random) -> dict[str, Any]:
        """Return the function's JSON schema, with or without optional parts."""
        properties = {
            p.name: {"type": p.kind} | ({"description": p.about} if rng.random() < 0.3 else {})
            for p in self.parameters
        }
        function: dict[str, Any] = {"name": self.name}
        if rng.random() < 0.8:
            function["description"] = f"{self.verb.capitalize()} the {self.noun}"
        function["parameters"] = {"type": "object", "properties": properties}
        if rng.random() < 0.5:
            function["parameters"]["required"] = list(properties)
        return {"type": "function", "function": function} if rng.random() < 0.5 else function


def asked_by(verb: str) -> tuple[str, ...]:
    """Return how people ask for what a verb does."""
    own = verb.capitalize()
    return VERBS.get(verb) or (own, f"Please {verb}", f"Can you {verb}", f"I want to {verb}")


def make_verb(rng: Random, side: str) -> str:
    """Draw a verb."""
    more = side == TRAIN and rng.random() < 0.2
    return rng.choice(MORE_VERBS if more else list(VERBS))


def make_noun(rng: Random, side: str) -> str:
    """Draw a noun; to train on, sometimes a made-up one.

    With few nouns the model would learn the pairs of verb and noun by heart, and take an offered
    pair that it has never met for one that is not offered.
    """
    if side == TRAIN and rng.random() < 0.12:
        return words.made_up(rng, side).lower()
    return rng.choice(words.words("nouns"))


def make_function(
    rng: Random, side: str, verb: str | None = None, noun: str | None = None
) -> Function:
    """Return a function; its verb and noun are drawn if they are None.

    A pair of verb and noun belongs to one side only.
    """
    own_verb, own_noun = verb, noun
    while True:
        verb, noun = own_verb or make_verb(rng, side), own_noun or make_noun(rng, side)
        if words.side_of(f"{verb}_{noun}") == side:
            break
    chosen: list[Parameter] = []
    for parameter in rng.sample(PARAMETERS, rng.choice((1, 1, 2, 2, 3))):
        if parameter.mention not in [other.mention for other in chosen]:
            chosen.append(parameter)
    return Function(verb, noun, tuple(chosen))


def make_near(rng: Random, functions: list[Function]) -> Function:
    """Return a function to train on that shares its verb, or less often its noun, with another.

    To tell the two apart, the model must read both verb and noun.
    """
    other = rng.choice(functions)
    if rng.random() < 0.75:
        return make_function(rng, TRAIN, verb=other.verb)
    return make_function(rng, TRAIN, noun=other.noun)


def make_absent(rng: Random, side: str, functions: list[Function]) -> Function:
    """Return a function that is asked for and not offered.

    To train on, it mostly shares a verb or noun with one that is offered.
    """
    if side == TRAIN and rng.random() < 0.6:
        return make_near(rng, functions)
    return make_function(rng, side)


def literal(value: object) -> str:
    """Return a value as a call writes it."""
    if isinstance(value, bool):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def written(name: str, arguments: dict[str, object]) -> str:
    """Return a call as the answers write it."""
    listed = ", ".join(f"{key}={literal(value)}" for key, value in arguments.items())
    return f"{name}({listed})"


def draw(rng: Random, side: str, function: Function) -> dict[str, object]:
    """Draw a value for each parameter."""
    return {p.name: values.make(p.value, rng, side) for p in function.parameters}


def mentions(rng: Random, function: Function, arguments: dict[str, object]) -> str:
    """Return how a request mentions the arguments, in any order."""
    parts = [p.mention.format(arguments[p.name]) for p in function.parameters]
    rng.shuffle(parts)
    return " ".join(parts)


def request(rng: Random, function: Function, arguments: dict[str, object]) -> str:
    """Return a request for one call."""
    verb = rng.choice(asked_by(function.verb))
    article = rng.choice(("the", "a", "my"))
    text = f"{verb} {article} {function.noun} {mentions(rng, function, arguments)}"
    return text + rng.choice(("", ".", "?", " please", ", please."))


def parallel(rng: Random, side: str, function: Function) -> tuple[str, str]:
    """Return a request for two or three calls of one function, and the calls.

    Keeping the arguments apart is hard, so three calls are more frequent to train on.
    """
    counts = (2, 2, 3) if side == HELD_OUT else (2, 3, 3)
    sets = [draw(rng, side, function) for _ in range(rng.choice(counts))]
    said = [mentions(rng, function, arguments) for arguments in sets]
    verb = rng.choice(asked_by(function.verb))
    text = f"{verb} the {function.noun} {', '.join(said[:-1])} and {said[-1]}"
    calls = ", ".join(written(function.name, arguments) for arguments in sets)
    return text + rng.choice(("", ".", " please")), f"[{calls}]"


def two_functions(rng: Random, side: str, first: Function, second: Function) -> tuple[str, str]:
    """Return a request for a call of each of two functions, and the calls."""
    a, b = draw(rng, side, first), draw(rng, side, second)
    said = request(rng, first, a).rstrip(".?").removesuffix(", please").removesuffix(" please")
    text = f"{said} and then {request(rng, second, b)}"
    return text, f"[{written(first.name, a)}, {written(second.name, b)}]"


def result(rng: Random, side: str) -> tuple[str, str]:
    """Return a function's result as JSON, and the sentence that says it."""
    keys = rng.sample(list(RESULTS), rng.choice((1, 2, 2, 3)))
    given = {key: values.make(RESULTS[key], rng, side) for key in keys}
    parts = [f"the {key} is {value}" for key, value in given.items()]
    sentence = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return json.dumps(given, ensure_ascii=False), f"{sentence[0].upper()}{sentence[1:]}."


def up_to_noun(text: str, function: Function, offered: bool = True) -> FunctionRequest:
    """Return the part of a request for a function that says which function it is."""
    end = text.index(f" {function.noun} ") + 1 + len(function.noun)
    return FunctionRequest(text[:end], function.name if offered else None)


def exchange(
    rng: Random, side: str, functions: list[Function]
) -> tuple[list[Message], list[FunctionRequest | None]]:
    """Return messages, and for each answer the request for a function that it answers."""
    chance = rng.random()
    not_offered, other_talk, in_parallel, two = KINDS[side]
    if chance < not_offered:
        absent = make_absent(rng, side, functions)
        if absent.name not in [f.name for f in functions]:
            text = request(rng, absent, draw(rng, side, absent))
            return turn(text, NO_CALL), [up_to_noun(text, absent, offered=False)]
    if chance < other_talk:
        return guide.exchange(rng, side), [None]
    function = rng.choice(functions)
    if chance < in_parallel:
        text, answer = parallel(rng, side, function)
    elif chance < two and len(functions) > 1:
        function, second = rng.sample(functions, 2)
        text, answer = two_functions(rng, side, function, second)
    else:
        arguments = draw(rng, side, function)
        text = request(rng, function, arguments)
        answer = f"[{written(function.name, arguments)}]"
    messages = turn(text, answer)
    requests: list[FunctionRequest | None] = [up_to_noun(text, function)]
    if rng.random() < 0.5:
        given, said = result(rng, side)
        messages += [
            {"role": "ipython", "content": given},
            {"role": "assistant", "content": said},
        ]
        requests.append(None)
    return messages, requests


def conversation(rng: Random, side: str) -> Conversation:
    """Return functions and one exchange; to train on, three to twelve exchanges.

    The list of functions costs tokens that teach nothing, so many exchanges share it.
    """
    functions: list[Function] = []
    for _ in range(rng.choice((1, 2, 2, 3))):
        near = side == TRAIN and functions and rng.random() < 0.4
        function = make_near(rng, functions) if near else make_function(rng, side)
        # The same verb or noun twice is fine, the same name is not.
        if function.name not in [f.name for f in functions]:
            functions.append(function)
    turns = 1 if side == HELD_OUT else rng.randint(3, 12)
    exchanges = [exchange(rng, side, functions) for _ in range(turns)]
    found = Conversation(
        messages=[message for messages, _ in exchanges for message in messages],
        tools=[function.schema(rng) for function in functions],
    )
    if side == TRAIN:
        found["requests"] = [request for _, requests in exchanges for request in requests]
    return found
