"""Tools: functions in the system prompt, a request, pythonic calls, and the answer to a result."""

import json
from dataclasses import dataclass
from random import Random

from training.corpus import guide, values, words
from training.corpus.words import HELD_OUT, TRAIN

NO_CALL = "None of the functions fits this request."
# What an exchange is about, by a number between 0 and 1. Below the first: a function that is not
# offered, which is hard and so trained on more often; below the second: other talk; below the
# third: parallel calls; below the fourth: two functions; else one call.
KINDS = {HELD_OUT: (0.15, 0.22, 0.4, 0.48), TRAIN: (0.26, 0.34, 0.49, 0.57)}

# verb, how people ask for it
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


# Only trained on, and asked for by their own word: what is offered is to be read, not known.
MORE_VERBS = (
    "add", "open", "close", "start", "stop", "print", "play", "rent", "share", "count", "move",
    "copy", "clean", "repair", "measure", "paint", "sell", "buy", "record", "rename", "archive",
    "load", "save", "lock", "pause", "list", "update", "compare", "sort", "draw", "approve",
)  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """A parameter's name, its JSON type, its values' maker, and how a request mentions it."""

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
# What a function's result may hold.
RESULTS = {
    "temperature": "-20-40", "sky": "one of skies", "status": "one of states", "price": "3-900",
    "id": "code", "time": "clock", "name": "first_name", "city": "city", "count": "2-90",
    "seat": "code", "day": "one of days",
}  # fmt: skip


@dataclass(frozen=True)
class Function:
    verb: str
    noun: str
    parameters: tuple[Parameter, ...]

    @property
    def name(self) -> str:
        return f"{self.verb}_{self.noun}"

    def schema(self, rng: Random) -> dict:
        properties = {
            p.name: {"type": p.kind} | ({"description": p.about} if rng.random() < 0.3 else {})
            for p in self.parameters
        }
        function: dict = {"name": self.name}
        if rng.random() < 0.8:
            function["description"] = f"{self.verb.capitalize()} the {self.noun}"
        function["parameters"] = {"type": "object", "properties": properties}
        if rng.random() < 0.5:
            function["parameters"]["required"] = list(properties)
        return {"type": "function", "function": function} if rng.random() < 0.5 else function


def asked_by(verb: str) -> tuple[str, ...]:
    """How people ask for what a verb does."""
    own = verb.capitalize()
    return VERBS.get(verb) or (own, f"Please {verb}", f"Can you {verb}", f"I want to {verb}")


def make_verb(rng: Random, side: str) -> str:
    more = side == TRAIN and rng.random() < 0.2
    return rng.choice(MORE_VERBS if more else list(VERBS))


def make_noun(rng: Random, side: str) -> str:
    """Some of those to train on are made up: of a few words the pairs with verbs would be known by
    heart, and a pair that is offered and was never met taken for one that is not."""
    if side == TRAIN and rng.random() < 0.12:
        return words.made_up(rng, side).lower()
    return rng.choice(words.words("nouns"))


def make_function(
    rng: Random, side: str, verb: str | None = None, noun: str | None = None
) -> Function:
    """A verb and a noun, drawn where they are not given; the pairs of the other side are never
    drawn."""
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
    """One to train on that shares its verb, or less often its noun, with one of the functions: both
    have to be read to tell them apart."""
    other = rng.choice(functions)
    if rng.random() < 0.75:
        return make_function(rng, TRAIN, verb=other.verb)
    return make_function(rng, TRAIN, noun=other.noun)


def make_absent(rng: Random, side: str, functions: list[Function]) -> Function:
    """One that is asked for and not offered. Most of those to train on are near to one that is."""
    if side == TRAIN and rng.random() < 0.6:
        return make_near(rng, functions)
    return make_function(rng, side)


def literal(value: object) -> str:
    if isinstance(value, bool):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def written(name: str, arguments: dict[str, object]) -> str:
    listed = ", ".join(f"{key}={literal(value)}" for key, value in arguments.items())
    return f"{name}({listed})"


def call(function: Function, arguments: dict[str, object]) -> str:
    return written(function.name, arguments)


def draw(rng: Random, side: str, function: Function) -> dict[str, object]:
    return {p.name: values.make(p.value, rng, side) for p in function.parameters}


def mentions(rng: Random, function: Function, arguments: dict[str, object]) -> str:
    parts = [p.mention.format(arguments[p.name]) for p in function.parameters]
    rng.shuffle(parts)
    return " ".join(parts)


def request(rng: Random, function: Function, arguments: dict[str, object]) -> str:
    verb = rng.choice(asked_by(function.verb))
    article = rng.choice(("the", "a", "my"))
    text = f"{verb} {article} {function.noun} {mentions(rng, function, arguments)}"
    return text + rng.choice(("", ".", "?", " please", ", please."))


def parallel(rng: Random, side: str, function: Function) -> tuple[str, str]:
    """The same function for two or three sets of values; more often three to train on, since
    keeping them apart is what is hard."""
    counts = (2, 2, 3) if side == HELD_OUT else (2, 3, 3)
    sets = [draw(rng, side, function) for _ in range(rng.choice(counts))]
    said = [mentions(rng, function, arguments) for arguments in sets]
    verb = rng.choice(asked_by(function.verb))
    text = f"{verb} the {function.noun} {', '.join(said[:-1])} and {said[-1]}"
    calls = ", ".join(call(function, arguments) for arguments in sets)
    return text + rng.choice(("", ".", " please")), f"[{calls}]"


def two_functions(rng: Random, side: str, first: Function, second: Function) -> tuple[str, str]:
    a, b = draw(rng, side, first), draw(rng, side, second)
    said = request(rng, first, a).rstrip(".?").removesuffix(", please").removesuffix(" please")
    text = f"{said} and then {request(rng, second, b)}"
    return text, f"[{call(first, a)}, {call(second, b)}]"


def result(rng: Random, side: str) -> tuple[str, str]:
    """What a function gave back, and the sentence that says it."""
    keys = rng.sample(list(RESULTS), rng.choice((1, 2, 2, 3)))
    given = {key: values.make(RESULTS[key], rng, side) for key in keys}
    parts = [f"the {key} is {value}" for key, value in given.items()]
    sentence = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return json.dumps(given, ensure_ascii=False), f"{sentence[0].upper()}{sentence[1:]}."


def decided(text: str, function: Function, offered: bool = True) -> tuple[str, str | None]:
    """As much of a request as must be read to know whether a function fits, and its name if so."""
    end = text.index(f" {function.noun} ") + 1 + len(function.noun)
    return text[:end], function.name if offered else None


def exchange(
    rng: Random, side: str, functions: list[Function]
) -> tuple[list[dict], list[tuple[str, str | None] | None]]:
    """Messages, and for each of the assistant's by what of the request it is decided, if so."""
    chance = rng.random()
    not_offered, other_talk, in_parallel, two = KINDS[side]
    if chance < not_offered:
        absent = make_absent(rng, side, functions)
        if absent.name not in [f.name for f in functions]:
            text = request(rng, absent, draw(rng, side, absent))
            return guide.turn(text, NO_CALL), [decided(text, absent, offered=False)]
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
        text, answer = request(rng, function, arguments), f"[{call(function, arguments)}]"
    messages, ends = guide.turn(text, answer), [decided(text, function)]
    if rng.random() < 0.5:
        given, said = result(rng, side)
        messages += [
            {"role": "ipython", "content": given},
            {"role": "assistant", "content": said},
        ]
        ends.append(None)
    return messages, ends


def conversation(rng: Random, side: str) -> dict:
    """Functions and an exchange; to train on, several, and by what each is decided."""
    functions: list[Function] = []
    for _ in range(rng.choice((1, 2, 2, 3))):
        near = side == TRAIN and functions and rng.random() < 0.4
        function = make_near(rng, functions) if near else make_function(rng, side)
        # The same verb or noun twice is fine, the same name is not.
        if function.name not in [f.name for f in functions]:
            functions.append(function)
    # To train on, many: the functions' list costs tokens that teach nothing.
    turns = 1 if side == HELD_OUT else rng.randint(3, 12)
    exchanges = [exchange(rng, side, functions) for _ in range(turns)]
    found = {
        "messages": [message for messages, _ in exchanges for message in messages],
        "tools": [function.schema(rng) for function in functions],
    }
    if side == TRAIN:
        found["decided"] = [end for _, ends in exchanges for end in ends]
    return found
