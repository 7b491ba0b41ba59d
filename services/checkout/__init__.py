"""The checkout example: an online shop's order, from the click to the parcel, over five services."""
