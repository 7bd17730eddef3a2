"""The Pages, ads and people of a campaign: invented, well-formed, and with answers that are hard to parse."""

import base64
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NewType

from messenger.events import Ad, Answer, AppId, PageId, Psid

Mid = NewType("Mid", str)

PHOTO_URL = "https://scontent.example.test/v/lead-ad.jpg?size=1080"


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FormTexts:
    """The questions of a Page's lead ads, and their last message."""

    questions: tuple[str, ...]
    confirmation: str = "Thank you! We have what we need."


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignPage:
    """A Page that runs lead ads. Meta writes `entry_id` as `entry.id` and `hop_app_id` as a summary's app."""

    page_id: PageId
    entry_id: str
    target_app: AppId
    hop_app_id: AppId
    ads: tuple[Ad, ...]
    questions: tuple[Question, ...]

    @property
    def form(self) -> FormTexts:
        return FormTexts(tuple(question.text for question in self.questions))


_CITY = Question(
    "What city is your store located?",
    ("Menlo Park", "Lyon", "São Paulo", "Zürich: Altstetten", "東京", "Saint-Étienne, quartier Bellevue"),
)
_EMAIL = Question("Your e-mail address", ("ana@example.test", "j.o'neil+ads@example.test", "müller@example.test"))
_YES_OR_NO = ("Yes", "No", "Yes 👍", "Maybe? Tell me more", "¡Sí, claro!")
_CALL = Question(
    "When may we call: morning or evening?",
    ("at 10:30", "evening", "Monday: 9:00 to 11:00", "After 18:00\nNot on Fridays", "Any time 😀"),
)
_SIZE = Question("How many people work there?", ("1", "2-10", "about 40 <full time>", "100% remote: 12"))

# The first Page, its app and its alias are those of the samples on Meta's product page:
# https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing/messenger-lead-ads
PAGES: tuple[CampaignPage, ...] = (
    CampaignPage(
        page_id=PageId("542998526103632"),
        entry_id="104508901353867",
        target_app=AppId("2262510160704936"),
        hop_app_id=AppId("498721317747541"),
        ads=(
            Ad("120210000000000101", "Become a reseller", "542998526103632_7001"),
            Ad("120210000000000102", "Résellers wanted: spring 🌱", "542998526103632_7002"),
            Ad("120210000000000103", "Your store, our brand", "542998526103632_7003"),
        ),
        questions=(Question("Are you interested in becoming a reseller?", _YES_OR_NO), _CITY, _CALL, _EMAIL),
    ),
    CampaignPage(
        page_id=PageId("617203344871950"),
        entry_id="617203344871950",
        target_app=AppId("2262510160704936"),
        hop_app_id=AppId("2262510160704936"),
        ads=(
            Ad("120210000000000201", "Book a demo", "617203344871950_8001"),
            Ad("120210000000000202", "Démo gratuite / 15 min", "617203344871950_8002"),
        ),
        questions=(Question("Are you interested in a demo?", _YES_OR_NO), _SIZE, _EMAIL),
    ),
)

LEAD_FORMS: Mapping[PageId, FormTexts] = {page.page_id: page.form for page in PAGES}


def invented_psid(rng: random.Random) -> Psid:
    return Psid(str(rng.randrange(10**15, 10**17)))


def invented_mid(rng: random.Random) -> Mid:
    return Mid("m_" + base64.urlsafe_b64encode(rng.randbytes(64)).decode().rstrip("="))


def invented_answers(rng: random.Random, page: CampaignPage) -> tuple[Answer, ...]:
    """One answer to each question of the Page's lead ads."""
    return tuple(Answer(question.text, rng.choice(question.answers)) for question in page.questions)
