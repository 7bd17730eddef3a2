"""The refusals of the fake Graph, with Meta's codes and words."""

from dataclasses import dataclass

from simulator.payloads import Json


@dataclass(frozen=True, slots=True)
class GraphError:
    """An error of the Graph API. The words are Meta's; programs read `code` and `subcode`."""

    code: int
    message: str
    subcode: int | None = None
    status: int = 400

    def as_json(self, fbtrace_id: str) -> Json:
        error: Json = {"message": self.message, "type": "OAuthException", "code": self.code}
        if self.subcode is not None:
            error["error_subcode"] = self.subcode
        return {"error": {**error, "fbtrace_id": fbtrace_id}}


class Refused(Exception):
    """The call had no effect; the caller reads `error`."""

    def __init__(self, error: GraphError) -> None:
        super().__init__(error.message)
        self.error = error


# https://developers.facebook.com/documentation/business-messaging/messenger-platform/error-codes
OUTSIDE_WINDOW = GraphError(10, "(#10) This message is sent outside of allowed window.", 2018278)
OTHER_APP_CONTROLS = GraphError(
    10, "(#10) Message failed to send because another app is controlling this thread now.", 2018300
)
LEAD_FLOW_RUNNING = GraphError(
    10,
    "The chat is currently controlled by Messenger while the user is in an automated question and answer flow. "
    "Please wait for the flow to finish before trying again.",
    2018321,
)
PAGE_RESTRICTED = GraphError(10, "(#10) You are temporarily restricted from sending messages.", 1893063)
PERSON_UNAVAILABLE = GraphError(551, "(#551) This person isn't available right now.", 1545041)
NO_SUCH_PERSON = GraphError(100, "(#100) No matching user found", 2018001)
NO_TOKEN = GraphError(104, "An access token is required to request this resource.", status=401)
BAD_TOKEN = GraphError(190, "Invalid OAuth access token - Cannot parse access token", status=401)
PROOF_REQUIRED = GraphError(100, "API calls from the server require an appsecret_proof argument")
BAD_PROOF = GraphError(100, "Invalid appsecret_proof provided in the API argument")
# https://developers.facebook.com/docs/graph-api/overview/rate-limiting
TOO_MANY_CALLS = GraphError(613, "(#613) Calls to this api have exceeded the rate limit.", status=429)
TEMPORARY = GraphError(2, "An unexpected error has occurred. Please retry your request later.", status=500)
# https://github.com/facebook/facebook-python-business-sdk/issues/470
TOO_MUCH_DATA = GraphError(1, "Please reduce the amount of data you're asking for, then retry your request", status=500)
# Seen in integrators' reports; Meta's pages do not list them.
TAKE_WITHOUT_ROUTING = GraphError(
    27, "(#27) Take thread control is not supported when Conversation Routing is not enabled."
)
NOT_THE_OWNER = GraphError(100, "(#100) Only the current thread owner can release or pass the thread")
# Codes of the Conversions API as integrators report them; Meta's pages list none.
SCOPE_MISSING = GraphError(200, "(#200) Requires page_events permission to manage the object")
NO_SUCH_DATA_SET = GraphError(
    100, "Unsupported post request. Object does not exist, or cannot be loaded due to missing permissions.", 33
)
EVENT_TOO_OLD = GraphError(100, "Invalid parameter: the timestamp for this event is too far in the past", 2804003)
NO_CHANNEL = GraphError(100, "Invalid parameter: Missing Messaging Channel Parameter", 2804064)
EVENT_NAME_UNKNOWN = GraphError(100, "Invalid parameter: Messaging Event Invalid Event Type", 2804066)
NO_SUCH_MESSENGER_USER = GraphError(100, "Invalid parameter: page_scoped_user_id", 2804067)


def invalid(what: str) -> Refused:
    return Refused(GraphError(100, f"(#100) Invalid parameter: {what}"))


def unknown_path(method: str) -> Refused:
    return Refused(GraphError(2500, f"Unknown path components for this {method} request"))
