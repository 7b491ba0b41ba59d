"""The participant kit: a service that takes commands, with each effect once.

payment = Participant("payment")

@payment.handles(TakePayment)
def take(cmd: TakePayment, work: Work) -> PaymentTaken: ...

store = Store("sqlite:///payment.db")
await ParticipantRunner(payment, store, log).run(stop)
"""

from saga.participant.participant import Participant
from saga.participant.runner import ParticipantRunner
from saga.participant.settings import Meter, NoMeter, Settings
from saga.participant.store import Store, Transaction
from saga.participant.work import Expired, Failed, Nothing, Refused, Work

__all__ = [
    "Expired",
    "Failed",
    "Meter",
    "NoMeter",
    "Nothing",
    "Participant",
    "ParticipantRunner",
    "Refused",
    "Settings",
    "Store",
    "Transaction",
    "Work",
]
