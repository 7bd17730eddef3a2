"""The faults that an operator can mend, as a sentence for a page, and forms that cannot be meant."""

from aiokafka.errors import KafkaConnectionError, KafkaError

from runtime.mendable import Mendable

FAULTS = (Mendable, KafkaError, OSError, TimeoutError)


class BadForm(Exception):
    """A form or an address has a value that cannot be meant; the argument is a sentence for the page."""


def sentence(fault: BaseException) -> str:
    """What is wrong; holds no personal data, since a `Mendable` holds none."""
    match fault:
        case Mendable():
            return "; ".join(map(str, fault.args))
        case KafkaConnectionError():
            return "Kafka does not answer"
        case KafkaError():
            return f"Kafka refused: {type(fault).__name__}"
        case TimeoutError():
            return "no answer in time"
        case OSError():
            return fault.strerror or type(fault).__name__
    raise TypeError(f"not a fault of an operator: {type(fault).__name__}")
