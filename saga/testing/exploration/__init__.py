"""Every single and double fault of a saga: the pieces behind `saga.testing.explore`.

samples    payloads that nobody gave: a start, replies, refusals (`patterns`: text for a regular expression)
watched    the definition, with an eye on its functions: does what they make survive the journal?
world      one instance, services that keep the protocol, and what is on its way between them; a value that is never changed
moves      what can happen next in a world: what would happen by itself, and every fault that is possible here
judge      what must hold in every world
search     all of it: no fault, then each one, then each one after each one
report     what was found, to read
"""
