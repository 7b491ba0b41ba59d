"""What all demos share: their processes, the log they run on, the way they are started, killed, judged and cleaned up."""
