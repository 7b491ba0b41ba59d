"""Is a participant right? Whoever plays the orchestrator to it can tell, in whatever language it is written.

A participant in another language is written from docs/PROTOCOL.md, and the page cannot be run. Its author tests what they thought of;
what they did not think of (a compensation that overtakes its command, a copy after it, a record that cannot be read) comes on a bad
day, with money in it. A test suite in each language would be as many suites. But the protocol is records on a log: so one program
sends what a saga would send, in the orders that go wrong, and holds each answer against the page.

    offers     which commands a participant takes, from the sagas of an app
    samples    payloads for them, from their schemas or from a file
    player     sends commands and hears answers, a conversation for each key
    form       what every answer must look like
    behaviour  what must be answered to what, and in which order
    crowd      many commands at once, old ones, and what is left behind
    garbage    what cannot be read, and must harm nothing
    session    all of it, in order; findings, each with the rule of the page that says so
    report     how it is told
"""

from saga.conformance.findings import Finding, Result
from saga.conformance.samples import Samples, read_samples
from saga.conformance.session import Asked, Checked, Plan, Subject, check, plan, subject

__all__ = ["Asked", "Checked", "Finding", "Plan", "Result", "Samples", "Subject", "check", "plan", "read_samples", "subject"]
