"""The checkout example: an online shop's order, from the click to the parcel.

Four services take commands (order, payment, inventory, shipping), two only listen (notification, analytics).
"""
