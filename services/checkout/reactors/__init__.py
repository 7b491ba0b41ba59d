"""Services that only listen: Faust apps on `saga.events`. They carry no money, and a saga never waits for one."""
