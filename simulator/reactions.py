"""The reactions of people to our messages: all are delivered, some people read them, and some of those answer."""

import random
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from messenger.events import Psid
from simulator import payloads
from simulator.payloads import Conversation, Json
from simulator.threads import Line
from simulator.world import World

_REPLIES = ("Yes, please call me tomorrow morning.", "What does it cost?", "Gracias 🙏", "Could you send me more?")


@dataclass(frozen=True, slots=True)
class Reactions:
    """The shares of people who read what they get, and who answer it; those who answer have read it."""

    read: float
    reply: float


def react(world: World, reactions: Reactions, at: datetime) -> Json:
    """Post the webhooks of everyone who got a message; gives the counts of messages delivered and read, and of replies.

    The same person reacts in the same way in every run.
    """
    counts = Counter(delivered=0, read=0, replied=0)
    answered: set[Psid] = set()
    for sent in world.sends.messages:
        who, person = Conversation(sent.page_id, sent.psid, sent.page_id), random.Random(sent.psid)
        mood = person.random()
        bodies = {"delivered": payloads.delivered(who, mid=sent.mid, watermark=sent.at, sent_at=at)}
        if mood < max(reactions.read, reactions.reply):
            bodies["read"] = payloads.read(who, watermark=sent.at, at=at, sent_at=at)
        if mood < reactions.reply and sent.psid not in answered:
            answered.add(sent.psid)
            bodies["replied"] = _reply(world, who, person, at)
        counts.update(bodies.keys())
        for body in bodies.values():
            world.notify(payloads.body([body]))
    return {**counts}


def _reply(world: World, who: Conversation, person: random.Random, at: datetime) -> Json:
    mid, text = f"m_{world.invented_id(48)}", person.choice(_REPLIES)
    thread = world.threads.find(who.page_id, who.psid)
    assert thread is not None, "the person got a message"
    thread.say(Line(mid, from_person=True, text=text, at=at))
    thread.last_user_message_at = at
    return payloads.message(who, text, mid=mid, at=at, sent_at=at)
