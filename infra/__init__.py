"""What the project needs around it to run and to be tested: a real broker, child processes that end for certain."""
