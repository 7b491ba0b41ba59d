"""Every single and double fault of a saga: the pieces behind `saga.testing.explore`, in the order in which they are read best.

explore    the function, and which faults there are
samples    payloads that nobody gave: a start, replies, refusals, events (`schemas`: how they are made up)
watched    the definition, with an eye on its functions: does what they make survive the journal?
world      one instance and what is on its way from it and to it; a value that is never changed
mail       a message on its way; `services`: who takes it, by the protocol
moves      what can happen next in a world: what would happen by itself, and every fault that is possible here
judge      what must hold in every world
search     all of it: no fault, then each one, then each one after each one
report     what was found, to read
"""
