"""Services of this example that nobody commands what to do with a change: they listen, with Faust, and say when they are done."""
