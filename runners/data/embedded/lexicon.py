"""Words of the embedded data, and the rule that keeps a third of them out of the training split."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass
class Words:
    """Draws words: training sees two thirds of each list, dev mixes both parts by `unseen`."""

    rng: random.Random
    unseen: float | None = None

    def pick(self, words: Sequence[T]) -> T:
        """Draw one word, from the training part or, by the share `unseen`, from the rest."""
        rest = len(words) // 3  # each third one: drawn by number, as lists would take long
        if self.unseen is not None and self.rng.random() < self.unseen:
            return words[3 * self.rng.choice(range(rest)) + 2]
        i = self.rng.choice(range(len(words) - rest))
        return words[i + i // 2]

    def pick_other(self, words: Sequence[T], taken: T) -> T:
        """Draw one that differs from `taken`."""
        while (word := self.pick(words)) == taken:
            pass
        return word

    def two(self, words: Sequence[T]) -> tuple[T, T]:
        """Draw two different words."""
        first = self.pick(words)
        return first, self.pick_other(words, first)


GOOD = """\
brilliant charming moving witty gripping delightful superb wonderful touching hilarious clever
graceful honest lively magnificent powerful refreshing splendid warm inspiring beautiful elegant
enchanting engaging excellent exciting fascinating fresh funny gorgeous imaginative impressive
intelligent joyful likable lovely marvelous memorable original outstanding passionate perceptive
poignant polished rewarding satisfying sincere stunning stylish tender terrific thoughtful
thrilling vivid
""".split()


BAD = """\
dull tedious clumsy boring lifeless shallow awful dreadful predictable bland lazy pointless
tiresome pretentious stale forgettable messy annoying silly hollow amateurish atrocious banal
chaotic cheap confusing contrived crude dismal disappointing embarrassing empty flat horrible
incoherent irritating lame lousy mediocre miserable muddled painful pathetic poor repetitive
ridiculous sloppy sluggish stupid terrible ugly unbearable uninspired weak wooden
""".split()


FILM_PARTS = """\
film movie plot script acting story cast dialogue ending direction music drama comedy picture
screenplay camerawork opening soundtrack performance thriller sequel documentary romance staging
editing character premise finale remake production
""".split()


PEOPLE = """\
Anna Bruno Clara David Elena Felix Greta Hugo Irene Jonas Karin Leo Maria Nils Olga Paul Rosa
Simon Tina Victor Wanda Yusuf Zoe Adam Beth Carl Diana Emil Fiona Georg Hanna Ivan Julia Kevin
Laura Martin Nora Oscar Peter Rita Stefan Teresa Ursula Walter
""".split()


COMPANIES = """\
Alcor Bexham Corvanta Deltex Erneway Fornell Gridmark Halden Intrex Jorvik Keltron Lumora
Marwick Nordale Orvex Pellham Quantor Redfern Solvane Tarkett Umbria Velcore Westal Yarrow
Zentek Ashford Brightline Castell Dunmore Everset
""".split()


CITIES = """\
Paris Oslo Madrid Vienna Lisbon Prague Dublin Athens Warsaw Helsinki Rome Berlin Zurich Chicago
Boston Denver Seattle Toronto Sydney Tokyo Cairo Nairobi Lima Delhi Seoul Brussels Geneva
""".split()


DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


MONTHS = (
    "January February March April May June July August September October November December".split()
)


# singular, plural
ANIMATE = [
    (w, w + "s")
    for w in """\
boy girl doctor teacher lawyer farmer student singer neighbor soldier painter driver sailor
actor writer nurse dancer banker pilot gardener visitor manager king baker guard player hunter
tailor waiter guest
""".split()
]


THINGS = [
    (w, w + "s")
    for w in """\
table chair lamp book window picture letter basket bottle house garden car boat bridge tower key
cabinet mirror carpet hammer ladder clock candle blanket ring engine shelfboard bucket guitar
drawer
""".split()
]


# base, third person, past, participle
INTRANSITIVE = [
    tuple(v.split("/"))
    for v in """\
sleep/sleeps/slept/slept laugh/laughs/laughed/laughed arrive/arrives/arrived/arrived
sing/sings/sang/sung smile/smiles/smiled/smiled fall/falls/fell/fallen
cough/coughs/coughed/coughed swim/swims/swam/swum disappear/disappears/disappeared/disappeared
wait/waits/waited/waited sneeze/sneezes/sneezed/sneezed rise/rises/rose/risen
""".split()
]


TRANSITIVE = [
    tuple(v.split("/"))
    for v in """\
see/sees/saw/seen help/helps/helped/helped follow/follows/followed/followed
admire/admires/admired/admired know/knows/knew/known choose/chooses/chose/chosen
visit/visits/visited/visited forget/forgets/forgot/forgotten blame/blames/blamed/blamed
draw/draws/drew/drawn trust/trusts/trusted/trusted watch/watches/watched/watched
""".split()
]


# specific, general
KINDS = [
    tuple(k.split("/"))
    for k in """\
poodle/dog rose/flower oak/tree violin/instrument sparrow/bird apple/fruit hammer/tool
salmon/fish sofa/piece-of-furniture taxi/car spaniel/dog tulip/flower pine/tree piano/instrument
eagle/bird banana/fruit saw/tool trout/fish wardrobe/piece-of-furniture limousine/car
surgeon/doctor novelist/writer carrot/vegetable beetle/insect canoe/boat terrier/dog
daisy/flower birch/tree flute/instrument pigeon/bird pear/fruit drill/tool tuna/fish
armchair/piece-of-furniture van/vehicle dentist/doctor poet/writer onion/vegetable wasp/insect
ferry/boat
""".split()
]


KINDS = [(a, b.replace("-", " ")) for a, b in KINDS]


# state, opposite
STATES = [
    tuple(s.split("/"))
    for s in """\
clean/dirty open/closed full/empty hot/cold new/old heavy/light dry/wet loud/quiet
cheap/expensive safe/dangerous large/small bright/dark fast/slow soft/hard strong/weak
thick/thin rich/poor sharp/blunt
""".split()
]


COLOURS = "red blue green yellow white black brown grey pink purple orange silver".split()


PLACES = """\
garden kitchen office station market library park harbor school hospital museum theater church
factory hotel airport
""".split()


# Active verbs of one meaning, and one of the opposite or another meaning with the same roles.
_PERSONAL = """\
praised,commended/criticized criticized,condemned/thanked phoned,called/avoided
rescued,saved/attacked defeated,beat/praised hired,recruited/dismissed
contacted,approached/ignored assisted,helped/hindered deceived,misled/informed
selected,chose/rejected assaulted,attacked/protected welcomed,greeted/dismissed
invited,asked/refused examined,inspected/despised admired,respected/despised
supervised,guided/obeyed followed,pursued/escaped scolded,rebuked/comforted
"""


_CORPORATE = """\
bought,purchased,acquired/sued sued,prosecuted/supported replaced,supplanted/joined
funded,financed/robbed established,founded/closed defeated,beat/supported
deceived,misled/informed contacted,approached/ignored assisted,helped/hindered
criticized,condemned/praised
"""


def _read_events(text: str) -> list[tuple[tuple[str, ...], str]]:
    pairs = (entry.split("/") for entry in text.split())
    return [(tuple(same.split(",")), other) for same, other in pairs]


PERSONAL_EVENTS, CORPORATE_EVENTS = _read_events(_PERSONAL), _read_events(_CORPORATE)


PARTICIPLES = {"beat": "beaten", "chose": "chosen", "saw": "seen"}


REASONS = """the train was late|the weather was bad|the price had fallen|a storm was coming
the doctor said so|the road was closed|money was short|the contract had ended|the bridge had
collapsed
tickets were sold out|the baby was asleep|the law had changed""".replace("\n", "|").split("|")


def participle(past: str) -> str:
    """Return the passive participle of an event verb given in the past tense."""
    return PARTICIPLES.get(past, past)


def plural(noun: str) -> str:
    """Return the plural of a regular noun."""
    return noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeiou" else noun + "s"


def article(noun: str) -> str:
    """Return 'a' or 'an' with the noun."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def fix_articles(text: str) -> str:
    """Collapse spaces, and turn 'a' before a vowel into 'an'."""
    return re.sub(r"\b([aA]) (?=[aeiou])", r"\1n ", " ".join(text.split()))


def sentence(text: str) -> str:
    """Capitalise, collapse spaces, and end with a full stop unless there is a mark."""
    text = fix_articles(text)
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".?!" else text + "."
