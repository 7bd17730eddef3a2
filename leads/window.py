"""When we may speak: the arithmetic of the messaging window and of thread control."""

from datetime import datetime, timedelta

from messenger.limits import MESSAGING_WINDOW, THREAD_CONTROL_DEFAULT, THREAD_CONTROL_MAX

_DAY = timedelta(days=1)


def closes_at(last_user_message_at: datetime) -> datetime:
    """The end of the messaging window that the person's last message opened."""
    return last_user_message_at + MESSAGING_WINDOW


def control_expires_at(since: datetime, granted: timedelta) -> datetime:
    """The end of thread control that was granted, or renewed by the person's last message, at `since`."""
    return since + granted


def parse_control_expiration(value: object, *, ceiling: timedelta = THREAD_CONTROL_MAX) -> timedelta:
    """How long `receiving_app_control_expiration` grants thread control: whole days from one up to `ceiling`.

    Anything else means one day, as Meta has it. `ceiling` is a parameter because Meta's pages disagree (7 or 30 days).
    """
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing/messenger-lead-ads
    if not isinstance(value, int) or not 1 <= value <= ceiling // _DAY:
        return THREAD_CONTROL_DEFAULT
    return value * _DAY


def is_open(moment: datetime, closes_at: datetime) -> bool:
    """Whether a window that closes at `closes_at` is still open at `moment`; at the boundary it is closed."""
    return moment < closes_at
