"""A canary in the join: followed up by its own rule, and neither published nor remembered."""

from msgspec.structs import replace

from leads.canary import policies
from leads.pages import Page, Pages
from leads.person import Person
from leads.records import FollowUpMessage, SendFollowUp
from leads.rules import Rule, RuleStep
from leads.shard import Shard
from messenger.events import PageId
from tests.builders import NOON, PAGE, a_referral

_RULES = (Rule(name="thanks", steps=(RuleStep(FollowUpMessage("Thanks!")),)),)


def test_its_only_output_is_the_command_of_its_own_rule() -> None:
    people: dict[str, Person] = {}
    shard = Shard(people, policies(Pages([Page(PAGE)]), _RULES), raw_partition_of=lambda _: 0)

    fold = shard.fold([(0, replace(a_referral(NOON), page_id=PageId("00")))])

    [command] = fold.outputs
    assert isinstance(command, SendFollowUp)
    assert (command.rule, command.page_id) == ("canary", "00")
    assert command.ends_at < command.not_after
    assert people == {}
    assert fold.changed == {f"00:{command.psid}"}


def test_other_pages_keep_their_rules() -> None:
    policy_of = policies(Pages([Page(PAGE)]), _RULES)

    assert policy_of(PAGE).rules == _RULES
