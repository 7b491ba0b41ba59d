"""The messages of the shipped examples, one module a service, and the catalogue that lists them all."""
