"""A service that only has an HTTP API takes part by configuration: command → request → reply. docs/HTTP_PARTICIPANT.md tells all.

    card = HttpParticipant(
        "card",
        Api("https://api.example.com/v1", headers={"Authorization": "Bearer ${CARD_TOKEN}"}),
        [
            Call(TakePayment, "POST", "/charges", [done(200, 201), refused(PaymentDeclined, 402)]),
            Call(
                ReturnPayment, "POST", "/charges/{subject_id}/refunds", [done(200, 201)],
                first=First("POST", "/charges/{subject_id}/void", [done(200), nothing(410)]),
            ),
        ],
    )

The same stands in a file for `HttpParticipant.read("card.toml", messages=[TakePayment, …])`.

It is built on the kit, not beside it: each call is a handler with `calls=`, so inbox, tombstones, `begun` and the outbox are the kit's.
The naive way, a loop that posts each command and calls every 2xx "done" and every 4xx "no", says false things of money: of an answer
that was lost, of a charge that comes after it was asked for in vain, of a 404 that some proxy made. What is asked, and what each answer
means, is therefore written down; what is not written down is a failure, said loudly, and never a fact.

The path of one command: participant → definition (what to ask) → session (ask) → answers (what was said).
"""

from saga.participant.http.answers import again, done, nothing, refused
from saga.participant.http.definition import Api, Call, First
from saga.participant.http.participant import HttpParticipant

__all__ = ["Api", "Call", "First", "HttpParticipant", "again", "done", "nothing", "refused"]
